//! Parsers of values that several commands take.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use strum::{EnumMessage, VariantArray};

use crate::address::Address;
use crate::{Error, duration};

/// The values of an enum by name; `--help` lists them with their doc comments.
pub fn choice<T>() -> impl TypedValueParser<Value = T>
where
    T: VariantArray + EnumMessage + Into<&'static str> + FromStr<Err = Error> + Copy + Send + Sync,
{
    let values = T::VARIANTS.iter().map(|variant| {
        let value = PossibleValue::new((*variant).into());
        match variant.get_documentation() {
            // A comment of several lines is one paragraph.
            Some(text) => value.help(text.trim_end_matches('.').split_whitespace().collect::<Vec<_>>().join(" ")),
            None => value,
        }
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse())
}

/// An input or an output, which need not be UTF-8.
pub fn address() -> impl TypedValueParser<Value = Address> {
    OsStringValueParser::new().map(Address::from)
}

/// A time above 0, as the pipeline file takes it.
pub fn duration() -> impl TypedValueParser<Value = Duration> {
    StringValueParser::new().try_map(|text| match duration::parse(&text) {
        Ok(Duration::ZERO) => Err(Error::usage("it must be more than 0")),
        time => time,
    })
}

/// A time as the pipeline file takes it.
pub fn duration_or_zero() -> impl TypedValueParser<Value = Duration> {
    StringValueParser::new().try_map(|text| duration::parse(&text))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;

    use super::*;
    use crate::compute::{ComputeChoice, Upsampling};
    use crate::draw::{Palette, View};
    use crate::input::live::Transport;
    use crate::model::manifest::Colour;
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
        check::<Colour>();
        check::<Provider>();
        check::<Resize>();
        check::<Policy>();
        check::<Sync>();
    }
}
