//! Parsers of values that several commands take.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use strum::{EnumMessage, VariantArray};

use crate::Error;

/// The values of an enum by their names; `--help` lists them with what the documentation says.
pub fn choice<T>() -> impl TypedValueParser<Value = T>
where
    T: VariantArray + EnumMessage + Into<&'static str> + FromStr<Err = Error> + Copy + Send + Sync,
{
    let values = T::VARIANTS.iter().map(|variant| {
        let value = PossibleValue::new((*variant).into());
        match variant.get_documentation() {
            Some(text) => value.help(text.trim_end_matches('.')),
            None => value,
        }
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse())
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;

    use super::*;
    use crate::compute::{ComputeChoice, Upsampling};
    use crate::draw::{Palette, View};
    use crate::input::live::Transport;
    use crate::model::runtime::provider::Provider;
    use crate::model::views::Resize;
    use crate::pipeline::{Policy, Sync};

    fn check<T>()
    where
        T: VariantArray + Into<&'static str> + FromStr<Err = Error> + Copy + Serialize + PartialEq + Debug,
    {
        for variant in T::VARIANTS {
            let name: &str = (*variant).into();
            assert_eq!(serde_json::to_value(variant).unwrap(), name);
            assert_eq!(name.parse::<T>().unwrap(), *variant);
        }
        assert!("no such".parse::<T>().unwrap_err().to_string().contains("`no such`"));
    }

    #[test]
    fn names_on_the_command_line_are_those_of_the_pipeline_file() {
        check::<ComputeChoice>();
        check::<Upsampling>();
        check::<Palette>();
        check::<View>();
        check::<Transport>();
        check::<Provider>();
        check::<Resize>();
        check::<Policy>();
        check::<Sync>();
    }
}
