//! `oodstream model verify`: the logits that `run` would use against those of another framework.

use std::path::PathBuf;

use clap::Args;

use super::network::RuntimeArgs;
use super::report::write_json;
use super::values::choice;
use crate::Result;
use crate::model::manifest::Colour;
use crate::model::runtime::SessionOptions;
use crate::model::verify::{self, Closeness, Verification};

/// Arguments of `oodstream model verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
In Python, for a network of your own framework and the picture that it was given:
  numpy.save(\"reference.npy\", network(prepared)[\"logits\"].numpy())

Example: oodstream model verify deeplab.onnx --image street.png --logits reference.npy

Exit codes: 0 both agree, 1 they differ.")]
pub struct VerifyArgs {
    /// Network to verify
    #[arg(value_name = "FILE.onnx")]
    model: PathBuf,
    /// Picture that the other framework was given
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Logits (features, for a network without classes) of the other framework, a NumPy array [C, h, w] or [1, C, h, w]
    #[arg(long, value_name = "FILE.npy")]
    logits: PathBuf,
    /// Order of the channels of the network's pictures [default: as the manifest says, else rgb]
    #[arg(long, value_name = "ORDER", value_parser = choice::<Colour>())]
    colour: Option<Colour>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command; the exit code is 1 where both differ.
///
/// # Errors
/// A file cannot be read, or the reference does not fit the network.
pub fn run(args: &VerifyArgs) -> Result<u8> {
    let options = SessionOptions { colour: args.colour, ..args.runtime.options() };
    let found = verify::verify(&args.model, &args.image, &args.logits, &options)?;
    match &args.json {
        Some(path) => write_json(&found, path)?,
        None => print(args, &found),
    }
    Ok(u8::from(!found.agrees))
}

fn print(args: &VerifyArgs, found: &Verification) {
    let [classes, rows, columns] = found.shape;
    println!("{}: {} `{}` {classes} x {rows} x {columns}", args.model.display(), found.compared, found.logits);
    println!("{}: {:?}", args.logits.display(), found.reference);
    print_closeness(&found.closeness);
    if found.agrees {
        println!("Both agree.");
        return;
    }
    match &found.explained {
        Some(closeness) => {
            println!("They differ. They would agree if this were taken into account:");
            for explanation in &found.explanations {
                println!("  {:<12} {}", explanation.what, explanation.text);
                println!("  {:<12} to do: {}", "", explanation.advice);
            }
            print_closeness(closeness);
        }
        None => println!(
            "They differ, and neither layout, colour, scale, resize rule nor softmax explains it: is it the same network, \
             the same weights and the same picture?"
        ),
    }
    for assumption in &found.assumptions {
        println!("  {:<12} {assumption}", "assumed");
    }
}

fn print_closeness(closeness: &Closeness) {
    println!(
        "  correlation {:.4}, largest difference {:.3e}, same class in {:.2} % of the pixels",
        closeness.correlation,
        closeness.largest_difference,
        100.0 * closeness.same_class
    );
}
