//! `ovenbird get KIND/NAME[/VERSION]`

use std::process::ExitCode;

use clap::ValueEnum;

use super::{Session, target};
use crate::error::Result;
use crate::store::Store;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME[/VERSION[/BUILD]] or an ARN; the version may end in x, and the newest that fits is taken
    resource: String,
    /// The form of the document
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// YAML, as `apply` takes it
    Yaml,
    /// JSON, as `apply` takes it
    Json,
}

/// Runs the verb: prints the document as it can be applied again.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if there is no such resource.
pub fn run(args: &Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    let record = store.resource(&target::reference(&args.resource)?)?;
    let document = record.read()?.to_document();
    session.printer.value(&document);
    let text = match args.output {
        Form::Yaml => super::yaml::write(&document),
        Form::Json => format!("{document:#}\n"),
    };
    session.printer.line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
