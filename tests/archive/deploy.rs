//! The files in `deploy` for clusters, as far as they can be checked without one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use support::common::Place;

use crate::kept::python;
use crate::{RULES, contents, copies, names, place};

#[test]
fn the_kubernetes_job_is_one_by_the_clients_models() {
    let Some(python) = python("kubernetes") else { return };
    let script = "
import json, sys, yaml
from kubernetes import client
job = yaml.safe_load(open(sys.argv[1]))
class Response: data = json.dumps(job)
api = client.ApiClient()
try: read = api.deserialize(Response, 'V1Job')
except TypeError: read = api.deserialize(Response.data, 'V1Job', 'application/json')
# What the models do not know is not in them: a key that is misspelt would be gone.
assert api.sanitize_for_serialization(read) == job, (api.sanitize_for_serialization(read), job)
spec = job['spec']
names = {volume['name'] for volume in spec['template']['spec']['volumes']}
(container,) = spec['template']['spec']['containers']
assert {mount['name'] for mount in container['volumeMounts']} == names
assert {one['name']: one.get('value') for one in container['env']}['SHARDS'] == str(spec['completions'])
print('ok')
";
    let manifest = support::repository().join("deploy/kubernetes/job.yaml");
    let output = Command::new(python).args(["-c", script]).arg(manifest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Starts a task of the Slurm array of `of`, with the program and a `scontrol` that writes down what it is told.
fn task(place: &Place, number: u32, of: u32) -> Child {
    let bin = place.path("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        let script = |name: &str, line: String| {
            fs::write(bin.join(name), format!("#!/bin/sh\n{line}\n")).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        // The network of the tests needs a method of its own.
        script("oodstream", format!("exec {} \"$@\" {RULES}", support::binary().display()));
        script("scontrol", format!("echo \"$@\" >> {}", place.path("scontrol").display()));
    }
    Command::new("bash")
        .arg(support::repository().join("deploy/slurm/array.sbatch"))
        .args([place.path("tree"), place.path("results")])
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("OODSTREAM_MODEL", place.path("model.onnx"))
        .envs([("SLURM_ARRAY_JOB_ID", "42"), ("SLURM_CPUS_PER_TASK", "1")])
        .env("SLURM_ARRAY_TASK_ID", number.to_string())
        .env("SLURM_ARRAY_TASK_COUNT", of.to_string())
        .spawn()
        .unwrap()
}

#[test]
fn the_tasks_of_a_slurm_array_are_the_archive() {
    let place = place();
    copies(&place, 6);
    for number in 1..=3 {
        assert!(task(&place, number, 3).wait().unwrap().success());
    }
    assert_eq!(contents(&place.path("results/events"), ".done.json").len(), 6);
    assert!(!place.path("scontrol").exists());
    let status = place.run("-q status results/events --json -").code(0).json();
    assert!(status["shards_missing"].as_array().unwrap().is_empty(), "{status}");
}

#[test]
fn a_slurm_task_that_is_out_of_time_is_queued_again() {
    let place = place();
    // One that cannot be over before the signal is there, and one that is still to do after it.
    for name in ["tree/a.mp4", "tree/b.mp4"] {
        fs::create_dir_all(place.path("tree")).unwrap();
        place.clip(
            name,
            "-f lavfi -i testsrc2=size=320x180:rate=25:duration=20 -c:v libx264 -preset ultrafast -pix_fmt yuv420p",
        );
    }
    let mut child = task(&place, 1, 1);
    let begun = Instant::now();
    while !names(&place.path("results/events")).iter().any(|name| name.ends_with(".doing")) {
        assert!(begun.elapsed() < Duration::from_secs(120), "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    // To the batch shell alone, as `--signal=B:` does.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(fs::read_to_string(place.path("scontrol")).unwrap(), "requeue 42_1\n");
    assert_eq!(contents(&place.path("results/events"), ".done.json").len(), 1);
}
