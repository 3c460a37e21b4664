//! `ovenbird-agent validate`.

use clap::Args;
use ovenbird_component::action::Platform;
use ovenbird_component::document::LARGEST_DOCUMENT;
use ovenbird_component::source::{Diagnostic, Diagnostics, Severity};
use ovenbird_component::{Options, validate_bytes};

use super::{complain, print_line};
use crate::address;
use crate::config::{ObjectStore, split_list};

#[derive(Args)]
pub struct ValidateArguments {
    /// Documents, separated by commas: paths, file://, s3://, http:// or https:// addresses.
    #[arg(short, long)]
    documents: String,
    /// Account that must own the bucket of s3:// documents.
    #[arg(long)]
    document_s3_bucket_owner: Option<String>,
    /// Platforms that the documents have to work on: linux, windows, darwin.
    #[arg(long)]
    os_platforms: Option<String>,
    /// Modules that may not be used, separated by commas.
    #[arg(long)]
    blocked_action_modules: Option<String>,
    /// Print diagnostics as JSON.
    #[arg(long)]
    json: bool,
    /// Leave warnings out.
    #[arg(short, long)]
    quiet: bool,
}

/// Validates every document and prints all problems.
pub fn run(arguments: ValidateArguments) -> i32 {
    let documents = split_list(&arguments.documents);
    if documents.is_empty() {
        complain("--documents names no document");
        return crate::EXIT_USAGE;
    }
    let mut options = Options {
        blocked_actions: arguments
            .blocked_action_modules
            .as_deref()
            .map(split_list)
            .unwrap_or_default(),
        warnings: !arguments.quiet,
        ..Options::default()
    };
    if let Some(words) = &arguments.os_platforms {
        let mut platforms = Vec::new();
        for word in split_list(words) {
            let Some(platform) = Platform::from_word(&word) else {
                complain(&format!(
                    "`{word}` is not a platform; expected linux, windows or darwin"
                ));
                return crate::EXIT_USAGE;
            };
            platforms.push(platform);
        }
        options.platforms = platforms;
    }
    let owner = arguments.document_s3_bucket_owner.as_deref();
    let mut all = Diagnostics::new();
    for found in validate_all(&documents, owner, &options) {
        all.append(found);
    }
    if arguments.json {
        print_line(&all.to_json().to_string());
    } else {
        print_line(all.render().trim_end());
    }
    if all.has_errors() {
        crate::EXIT_FAILED
    } else {
        crate::EXIT_SUCCESS
    }
}

/// Validates documents on all processors; the results come in the order of the documents.
fn validate_all(documents: &[String], owner: Option<&str>, options: &Options) -> Vec<Diagnostics> {
    let store = ObjectStore::default().or_environment();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = documents.len().div_ceil(threads).max(1);
    let one = |path: &String| match address::read(&store, path, owner, None, 2 * LARGEST_DOCUMENT) {
        Ok(bytes) => validate_bytes(path.as_str(), &bytes, options).diagnostics,
        Err(error) => Diagnostics::from(
            Diagnostic::new(
                Severity::Error,
                "cannot-read",
                format!("cannot read the document: {error}"),
            )
            .in_file(path),
        ),
    };
    if threads == 1 || documents.len() == 1 {
        return documents.iter().map(one).collect();
    }
    std::thread::scope(|scope| {
        let shares: Vec<_> = documents
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
            .collect();
        shares
            .into_iter()
            .flat_map(|part| {
                part.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}
