//! Every shader is valid WGSL for what this program asks of an adapter, and documented as the others are.

use std::collections::BTreeSet;
use std::path::Path;

use naga::valid::{Capabilities, ValidationFlags, Validator};

#[test]
fn every_shader_is_valid_and_says_what_it_binds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        let half = ["enable f16;\nalias Stored = f16;\n", &source].concat();
        let module = naga::front::wgsl::parse_str(&half)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&half, &name)));
        let half_capabilities = Capabilities::SHADER_FLOAT16;
        if let Err(error) = Validator::new(ValidationFlags::all(), half_capabilities).validate(&module) {
            panic!("{}", error.emit_to_string_with_path(&half, &name));
        }
        let header: Vec<&str> = source.lines().take_while(|line| line.starts_with("//")).collect();
        let source = ["alias Stored = f32;\n", &source].concat();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, &name)));
        if let Err(error) = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module) {
            panic!("{}", error.emit_to_string_with_path(&source, &name));
        }
        assert_eq!(module.entry_points.len(), 1, "{name}");
        let header = header.join("\n");
        assert!(header.contains("workgroup:"), "{name}: the header does not give the workgroup size");
        let bindings: BTreeSet<u32> =
            module.global_variables.iter().filter_map(|(_, v)| v.binding.as_ref()).map(|b| b.binding).collect();
        for binding in &bindings {
            assert!(header.contains(&format!("\n// {binding}  ")), "{name}: binding {binding} is not in the header");
        }
        assert!(bindings.len() <= 9, "{name}: more than 8 storage buffers");
        let shared: u32 = module
            .global_variables
            .iter()
            .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
            .map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()))
            .sum();
        assert!(shared <= 16384, "{name}: {shared} bytes of workgroup memory");
        seen += 1;
    }
    assert_eq!(seen, 21, "shaders");
}
