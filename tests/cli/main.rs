//! The program as users run it: its commands, their output and exit codes, and the examples.

mod bundled;
mod calibrate_command;
mod eval_command;
mod examples;
mod grid;
mod manual_command;
mod maps;
mod ood_command;
mod run_errors;
mod run_gpu;
mod run_overlap;
mod run_video;
mod sequences;
