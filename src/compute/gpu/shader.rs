//! The compute passes, one WGSL file each, and the preludes that several of them share.

/// A pass; the header of its file lists its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shader {
    Gather,
    Confidence,
    Sum,
    Mean,
    Centre,
    Spread,
    Seed,
    SeedPick,
    Start,
    Assign,
    Converge,
    Update,
    Reseed,
    Keep,
    Bank,
    ClusterMean,
    Fuse,
    GuidedFit,
    GuidedApply,
    Upsample,
}

/// The file of one pass.
pub(super) struct ShaderSource {
    /// The file's name, without its ending.
    pub name: &'static str,
    /// Preludes and pass.
    parts: &'static [&'static str],
}

impl ShaderSource {
    /// The module as it is compiled; features are stored as f16 where `half` is set.
    pub fn text(&self, half: bool) -> String {
        let stored = if half { "enable f16;\nalias Stored = f16;\n" } else { "alias Stored = f32;\n" };
        [&[stored], self.parts].concat().concat()
    }
}

macro_rules! source {
    ($name:literal $(after $($prelude:literal)+)?) => {
        ShaderSource {
            name: $name,
            parts: &[
                $($(include_str!(concat!("../../../shaders/prelude/", $prelude, ".wgsl")),)+)?
                include_str!(concat!("../../../shaders/", $name, ".wgsl")),
            ],
        }
    };
}

/// The files in the order of [`Shader`].
pub(super) const SOURCES: [ShaderSource; 20] = [
    source!("gather" after "exact"),
    source!("confidence"),
    source!("sum" after "exact" "run"),
    source!("mean" after "exact"),
    source!("centre"),
    source!("spread"),
    source!("seed"),
    source!("seed_pick"),
    source!("start"),
    source!("assign" after "exact" "run"),
    source!("converge" after "run"),
    source!("update" after "exact" "run"),
    source!("reseed" after "run"),
    source!("keep"),
    source!("bank"),
    source!("cluster_mean" after "run"),
    source!("fuse" after "run"),
    source!("guided_fit"),
    source!("guided_apply"),
    source!("upsample"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use naga::{Module, ScalarKind, TypeInner};

    use super::super::params::layout::{self, Fields};
    use super::super::params::{self, Frame, Run};
    use super::{SOURCES, ShaderSource};

    fn module(source: &ShaderSource, half: bool) -> Module {
        let (name, text) = (source.name, source.text(half));
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&text, name)));
        let capabilities = if half { Capabilities::SHADER_FLOAT16 } else { Capabilities::empty() };
        if let Err(error) = Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
            panic!("{}", error.emit_to_string_with_path(&text, name));
        }
        module
    }

    #[test]
    fn every_shader_is_valid_and_says_what_it_binds() {
        for source in &SOURCES {
            let name = source.name;
            module(source, true);
            let module = module(source, false);
            assert_eq!(module.entry_points.len(), 1, "{name}");
            let (pass, preludes) = source.parts.split_last().unwrap();
            let header: Vec<&str> = pass.lines().take_while(|line| line.starts_with("//")).collect();
            let header = header.join("\n");
            assert!(header.contains("workgroup:"), "{name}: the header does not give the workgroup size");
            let named = header.lines().find_map(|line| line.strip_prefix("// before it: ")).unwrap_or_default();
            let named: Vec<&str> = named.split(", ").filter(|name| !name.is_empty()).collect();
            assert_eq!(named.len(), preludes.len(), "{name}: the header does not name its preludes");
            for (name, prelude) in named.iter().zip(preludes) {
                assert_eq!(std::fs::read_to_string(folder().join(name)).unwrap(), *prelude);
            }
            let bindings: BTreeSet<u32> =
                module.global_variables.iter().filter_map(|(_, v)| v.binding.as_ref()).map(|b| b.binding).collect();
            for binding in &bindings {
                assert!(
                    header.contains(&format!("\n// {binding}  ")),
                    "{name}: binding {binding} is not in the header"
                );
            }
            assert!(bindings.len() <= 9, "{name}: more than 8 storage buffers");
            let shared: u32 = module
                .global_variables
                .iter()
                .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
                .map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()))
                .sum();
            assert!(shared <= 16384, "{name}: {shared} bytes of workgroup memory");
        }
    }

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")
    }

    #[test]
    fn every_file_is_compiled() {
        let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let files: BTreeSet<_> = files.filter(|path| path.is_file()).collect();
        let known = SOURCES.iter().map(|source| folder().join(source.name).with_extension("wgsl")).collect();
        assert_eq!(files, known);
        for file in std::fs::read_dir(folder().join("prelude")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(SOURCES.iter().any(|source| source.parts.contains(&&*text)), "no pass uses this prelude: {text}");
        }
    }

    /// Holds a struct of this program against the WGSL struct of that name: names, types, offsets, size.
    #[track_caller]
    fn assert_layout(source: &ShaderSource, name: &str, (fields, size): Fields) {
        let module = module(source, false);
        let types = module.types.iter().map(|(_, known)| known);
        let declared = types.filter(|known| known.name.as_deref() == Some(name)).collect::<Vec<_>>();
        let [naga::Type { inner: TypeInner::Struct { members, span }, .. }] = declared[..] else {
            panic!("{}.wgsl has no struct {name}", source.name)
        };
        let type_of = |inner: &TypeInner| match *inner {
            TypeInner::Scalar(scalar) if scalar.width == 4 => match scalar.kind {
                ScalarKind::Uint => "u32",
                ScalarKind::Sint => "i32",
                ScalarKind::Float => "f32",
                _ => "?",
            },
            TypeInner::Vector { size: naga::VectorSize::Quad, scalar: naga::Scalar::F32 } => "[f32; 4]",
            _ => "?",
        };
        let members: Vec<_> = members
            .iter()
            .map(|m| (m.name.as_deref().unwrap_or("?"), type_of(&module.types[m.ty].inner), m.offset as usize))
            .collect();
        assert_eq!(members, fields, "{}.wgsl: {name}", source.name);
        assert_eq!(*span as usize, size, "{}.wgsl: the size of {name}", source.name);
    }

    #[test]
    fn parameters_lie_as_the_shaders_declare_them() {
        let all = params::all();
        assert_eq!(all.len(), SOURCES.len());
        for (shader, fields) in all {
            assert_layout(&SOURCES[shader as usize], "Params", fields);
        }
        for source in SOURCES.iter().filter(|source| source.parts.concat().contains("struct Run {")) {
            assert_layout(source, "Run", layout::fields::<Run>());
        }
        assert_layout(&SOURCES[super::Shader::Upsample as usize], "Frame", layout::fields::<Frame>());
    }

    #[test]
    fn a_helper_stands_in_one_file() {
        for helper in ["fn opaque(", "fn two_sum(", "fn two_product(", "struct Run {"] {
            let parts: BTreeSet<_> = SOURCES.iter().flat_map(|source| source.parts).collect();
            assert_eq!(parts.iter().filter(|part| part.contains(helper)).count(), 1, "{helper}");
        }
    }
}
