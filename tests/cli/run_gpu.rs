//! The main job with the dense maths on the GPU, where frames overlap: each frame gets the score that the CPU gives it.

use support::adapter;
use support::common::{Place, score_maps};

#[test]
fn every_frame_gets_its_own_score() {
    if !adapter::is_there() {
        return;
    }
    let place = Place::new();
    place.moving("a.mp4", 24);
    // With a threshold and without one: then the first frame is processed twice.
    for (name, threshold) in [("known", "--threshold 0.5"), ("unknown", "")] {
        let [cpu, gpu] = ["cpu", "gpu"].map(|compute| {
            let folder = format!("{name}-{compute}");
            let command = format!(
                "run a.mp4 -o none -o scores:{folder} --compute {compute} --set detect.smoothing=0.5 --threads 1 {threshold}"
            );
            place.run(&command).code(0);
            score_maps(&place.path(&folder))
        });
        assert_eq!(cpu.len(), 24);
        assert_eq!(cpu.keys().collect::<Vec<_>>(), gpu.keys().collect::<Vec<_>>());
        assert!(cpu.values().zip(cpu.values().skip(1)).any(|(a, b)| a != b), "frames that are alike prove nothing");
        for (frame, want) in &cpu {
            let worst = gpu[frame].iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}, {frame}: {worst}");
        }
    }
}

#[test]
fn features_in_f16_are_an_option_of_the_gpu() {
    let place = Place::new();
    place.moving("a.mp4", 4);
    // The CPU has no such storage, and says so.
    place.run("run a.mp4 -o none --compute cpu --set detect.gpu_f16=true").code(0).says(&["gpu_f16", "f32"]);
    if !adapter::is_there() {
        return;
    }
    let ended = place.run("run a.mp4 -o none --compute gpu --set detect.gpu_f16=true");
    if ended.stderr.contains("SHADER_F16") {
        ended.code(1);
    } else {
        ended.code(0).says(&["features in f16"]);
    }
}
