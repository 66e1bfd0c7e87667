//! Quantised graphs: in integers where the provider has them, in floats where `--precision f32` asks for it.

use support::common::{Place, score_maps};
use support::onnx::quantised;

#[test]
fn precision_f32_computes_a_quantised_graph_in_floats() {
    let place = Place::new();
    place.moving("a.mp4", 1);
    for relu in [true, false] {
        quantised(relu).save(&place.path("quantised.onnx"));
        let map = |precision: &str| {
            let given = format!("quantised.onnx --provider cpu --precision {precision}");
            let found = place.run(&format!("model inspect {given} --json -")).code(0).json();
            let run = format!("run a.mp4 -o none -o scores:{precision} --overwrite -m {given} --method max-logit");
            let report = place.run(&format!("{run} --threshold 0 --json - -q")).code(0).json();
            assert_eq!(report["precision"], found["precision"]);
            let scores = score_maps(&place.path(precision)).into_values().flatten().collect::<Vec<_>>();
            (found["precision"].as_str().unwrap().to_owned(), found["placement"].to_string(), scores)
        };
        let (precision, placement, integers) = map("auto");
        assert_eq!(precision, "int8", "{placement}");
        let (precision, placement, floats) = map("f32");
        assert_eq!(precision, "f32");
        assert!(!placement.contains("uantizeLinear") && !placement.contains("QLinear"), "{placement}");
        // Features are rounded by 0.025 at most and weights reach 0.5: eight of them come to 0.1 where all go one way.
        let furthest = integers.iter().zip(&floats).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest > 0.0 && furthest < 0.1, "relu {relu}: {furthest}");
        assert_eq!(map("int8").2, integers);
    }
}

#[test]
fn int8_is_refused_for_a_graph_in_floats() {
    let place = Place::new();
    place.run("model inspect model.onnx --provider cpu --precision int8").code(2).says(&[
        "precision int8",
        "not quantised",
        "quantise.py",
    ]);
}
