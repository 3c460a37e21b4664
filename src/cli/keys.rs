//! `ovenbird keys generate|show`

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Subcommand, ValueEnum};
use ovenbird_provenance::key::{Algorithm, PublicKey};
use serde_json::json;

use super::printer::Printer;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::signing;

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key pair: FILE, which stays here, and FILE.pub, which those who verify need
    Generate {
        /// The private key's file
        file: Utf8PathBuf,
        /// The kind of key
        #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
        algorithm: Kind,
        /// A file with the passphrase; without it OVENBIRD_KEY_PASSPHRASE counts, and without that the key is not encrypted
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<Utf8PathBuf>,
    },
    /// Print the id of a public key
    Show {
        /// The public key's file
        file: Utf8PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Ed25519
    Ed25519,
    /// ECDSA on P-256, the kind that cosign makes
    P256,
}

impl From<Kind> for Algorithm {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ed25519 => Self::Ed25519,
            Kind::P256 => Self::EcdsaP256,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// What [`signing::generate`] and [`signing::public_key`] say.
pub fn run(args: Args, printer: Printer) -> Result<ExitCode> {
    match args.verb {
        Verb::Generate {
            file,
            algorithm,
            passphrase_file,
        } => {
            let passphrase = signing::passphrase(passphrase_file.as_deref())?;
            let (public, beside) =
                signing::generate(&file, algorithm.into(), passphrase.as_deref())?;
            tell(printer, &public, &format!("{file} and {beside}"))?;
            if passphrase.is_none() {
                printer.line(format!(
                    "{file} is not encrypted: whoever reads it can sign; {} gives a passphrase",
                    signing::PASSPHRASE
                ));
            }
        }
        Verb::Show { file } => tell(printer, &signing::public_key(&file)?, file.as_str())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(printer: Printer, key: &PublicKey, place: &str) -> Result<()> {
    let id = key
        .id()
        .or_failure(FailureKind::Internal, || "a key without an id".into())?;
    printer.value(&json!({ "id": id, "files": place }));
    printer.line(format!("{id}  {place}"));
    Ok(())
}
