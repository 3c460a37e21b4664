//! The 30 action modules as one table.
//!
//! Reading, validation, coercion at run time, the JSON Schema and the reference in the user guide are all driven by this
//! table, so a module's inputs are described in exactly one place.

use std::fmt;

/// An operating system that a document can be meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
    /// macOS.
    Darwin,
}

impl Platform {
    /// All platforms.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Windows, Self::Darwin];

    /// The platform that this code runs on.
    pub fn current() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::Darwin
        } else {
            Self::Linux
        }
    }

    /// The word used on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Darwin => "darwin",
        }
    }

    /// The platform of a command-line word; `macos` is accepted for `darwin`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "linux" => Some(Self::Linux),
            "windows" => Some(Self::Windows),
            "darwin" | "macos" => Some(Self::Darwin),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The form of a step's `inputs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One map.
    Map,
    /// One map that may be left out.
    OptionalMap,
    /// A list of maps, worked off in order.
    List,
    /// A map with exactly one operator.
    Operator,
}

/// What an input takes. References are allowed in every text, so a kind is checked again after substitution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// Any text.
    Text,
    /// A path in the guest.
    Path,
    /// A path whose last element may hold `*`.
    WildcardPath,
    /// `true` or `false`.
    Boolean,
    /// A whole number of zero or more.
    Count,
    /// A list of texts.
    Texts,
    /// A map from text to text.
    TextMap,
    /// A list of `{name, value}`.
    Parameters,
    /// An octal file mode as text.
    Mode,
    /// One of these words, in this case.
    Word(&'static [&'static str]),
    /// One of [`ENCODINGS`], in any case.
    Encoding,
    /// An `http://` or `https://` address.
    WebAddress,
    /// An `s3://bucket/key` or `file://` address.
    ObjectAddress,
    /// A 12-digit account number.
    Account,
    /// Flags of the Windows installer's log option.
    MsiLogOptions,
    /// A registry path with a known hive.
    RegistryPath,
    /// Text, a number or a list of texts.
    RegistryValue,
    /// The path of a PowerShell script.
    PowerShellFile,
}

/// One input of a module.
#[derive(Debug, Clone, Copy)]
pub struct InputSpec {
    /// Its key.
    pub name: &'static str,
    /// What it takes.
    pub kind: InputKind,
    /// Whether it must be given.
    pub required: bool,
    /// The value used when it is not given, as people write it.
    pub default: Option<&'static str>,
    /// One line for the guide and the schema.
    pub about: &'static str,
}

/// One module.
#[derive(Debug)]
pub struct ActionSpec {
    /// Which module this is.
    pub action: Action,
    /// Its name in a document, in exact case.
    pub name: &'static str,
    /// Where it works.
    pub platforms: &'static [Platform],
    /// The form of its `inputs`.
    pub shape: Shape,
    /// Its inputs.
    pub inputs: &'static [InputSpec],
    /// Its outputs.
    pub outputs: &'static [&'static str],
    /// One line for the guide and the schema.
    pub about: &'static str,
}

/// The words of `encoding`; a form without a byte order is little-endian.
pub const ENCODINGS: [&str; 14] = [
    "utf8",
    "utf-8",
    "utf16",
    "utf-16",
    "utf16-LE",
    "utf-16-LE",
    "utf16-BE",
    "utf-16-BE",
    "utf32",
    "utf-32",
    "utf32-LE",
    "utf-32-LE",
    "utf32-BE",
    "utf-32-BE",
];

/// The words of `algorithm`.
pub const ALGORITHMS: [&str; 4] = ["MD5", "SHA1", "SHA256", "SHA512"];

/// The hives that a registry path can start with.
pub const REGISTRY_HIVES: [&str; 10] = [
    "HKEY_CLASSES_ROOT",
    "HKCR:",
    "HKEY_USERS",
    "HKU:",
    "HKEY_LOCAL_MACHINE",
    "HKLM:",
    "HKEY_CURRENT_CONFIG",
    "HKCC:",
    "HKEY_CURRENT_USER",
    "HKCU:",
];

const LWM: &[Platform] = &[Platform::Linux, Platform::Windows, Platform::Darwin];
const LM: &[Platform] = &[Platform::Linux, Platform::Darwin];
const LW: &[Platform] = &[Platform::Linux, Platform::Windows];
const W: &[Platform] = &[Platform::Windows];

const fn required(name: &'static str, kind: InputKind, about: &'static str) -> InputSpec {
    InputSpec {
        name,
        kind,
        required: true,
        default: None,
        about,
    }
}

const fn optional(name: &'static str, kind: InputKind, about: &'static str) -> InputSpec {
    InputSpec {
        name,
        kind,
        required: false,
        default: None,
        about,
    }
}

const fn preset(
    name: &'static str,
    kind: InputKind,
    default: &'static str,
    about: &'static str,
) -> InputSpec {
    InputSpec {
        name,
        kind,
        required: false,
        default: Some(default),
        about,
    }
}

const OVERWRITE: InputSpec = preset(
    "overwrite",
    InputKind::Boolean,
    "true",
    "Whether an existing target is replaced; `false` makes it an error.",
);
const BUCKET_OWNER: InputSpec = optional(
    "expectedBucketOwner",
    InputKind::Account,
    "Account that must own the bucket.",
);
const ENCODING: InputSpec = preset(
    "encoding",
    InputKind::Encoding,
    "utf8",
    "Encoding of the file.",
);
const OWNER: InputSpec = optional("owner", InputKind::Text, "Name or number of the owner.");
const GROUP: InputSpec = optional("group", InputKind::Text, "Name or number of the group.");
const RECURSIVE: InputSpec = preset(
    "recursive",
    InputKind::Boolean,
    "true",
    "Whether everything inside is changed as well.",
);
const TRANSFER: &[InputSpec] = &[
    required(
        "source",
        InputKind::WildcardPath,
        "What to take; `*` is allowed after the last separator.",
    ),
    required(
        "destination",
        InputKind::Path,
        "Where to; with a separator at the end the source's name is kept.",
    ),
    OVERWRITE,
];
const MSI: &[InputSpec] = &[
    required(
        "path",
        InputKind::Text,
        "Local path, `s3://` or web address of the package.",
    ),
    preset(
        "reboot",
        InputKind::Word(&["Allow", "Force", "Skip"]),
        "Allow",
        "When to reboot afterwards.",
    ),
    preset(
        "logOptions",
        InputKind::MsiLogOptions,
        "*VX",
        "Flags of the installer's log.",
    ),
    optional(
        "logFile",
        InputKind::Path,
        "Where to keep the installer's log.",
    ),
    optional(
        "properties",
        InputKind::TextMap,
        "Properties passed to the installer.",
    ),
    preset(
        "ignoreAuthenticodeSignatureErrors",
        InputKind::Boolean,
        "false",
        "Whether a bad signature is accepted.",
    ),
    preset(
        "allowUnsignedInstaller",
        InputKind::Boolean,
        "false",
        "Whether a package without a signature is accepted.",
    ),
];

macro_rules! actions {
    ($($name:ident $platforms:ident $shape:ident [$($output:literal),*] $about:literal => $inputs:expr;)*) => {
        /// An action module.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $(
                #[doc = $about]
                $name,
            )*
        }

        /// The table of all modules, in the order of [`Action`].
        pub static ACTIONS: &[ActionSpec] = &[
            $(ActionSpec {
                action: Action::$name,
                name: stringify!($name),
                platforms: $platforms,
                shape: Shape::$shape,
                inputs: $inputs,
                outputs: &[$($output),*],
                about: $about,
            },)*
        ];
    };
}

actions! {
    Assert LWM Operator [] "Fails the step unless a condition holds." => &[];
    ExecuteBash LM Map ["stdout"] "Runs commands as one bash script." => &[
        required("commands", InputKind::Texts, "Commands, joined by line ends into one script."),
    ];
    ExecuteBinary LWM Map ["stdout"] "Starts a program without a shell." => &[
        required("path", InputKind::Path, "The program."),
        optional("arguments", InputKind::Texts, "Its arguments, one item each."),
    ];
    ExecuteDocument LWM Map [
        "executedStepCount", "executionId", "failedStepCount", "failureMessage", "ignoredFailedStepCount", "logUrl", "status"
    ] "Runs another component document." => &[
        required("document", InputKind::Text, "Local path, `s3://` address or component build-version ARN."),
        optional("document-s3-bucket-owner", InputKind::Account, "Account that must own the bucket."),
        optional("phases", InputKind::Text, "Phases to run, separated by commas; all when left out."),
        optional("parameters", InputKind::Parameters, "Values for the document's parameters."),
    ];
    ExecutePowerShell W Map ["stdout"] "Runs PowerShell commands or a script file." => &[
        optional("commands", InputKind::Texts, "Commands, joined into one script; either this or `file`."),
        optional("file", InputKind::PowerShellFile, "Path of a `.ps1` file; either this or `commands`."),
    ];
    S3Download LWM List [] "Copies objects to files." => &[
        required("source", InputKind::ObjectAddress, "`s3://bucket/key`, or `s3://bucket/prefix/*` for all objects below a prefix."),
        required("destination", InputKind::Path, "A file, or a folder for a prefix."),
        BUCKET_OWNER,
        OVERWRITE,
    ];
    S3Upload LWM List [] "Copies files to objects." => &[
        required("source", InputKind::WildcardPath, "A file, a folder, or a pattern with `*` after the last separator."),
        required("destination", InputKind::ObjectAddress, "`s3://bucket/key`, or a prefix that ends with `/`."),
        preset("recurse", InputKind::Boolean, "false", "Whether folders are uploaded with everything below."),
        BUCKET_OWNER,
    ];
    WebDownload LWM List ["destination"] "Downloads files over HTTP or HTTPS." => &[
        required("source", InputKind::WebAddress, "The address."),
        required("destination", InputKind::Path, "A file; with a separator at the end a folder, and the name is taken from the address."),
        OVERWRITE,
        optional("checksum", InputKind::Text, "Digest that the file must have; needs `algorithm`."),
        optional("algorithm", InputKind::Word(&ALGORITHMS), "Algorithm of `checksum`."),
        preset("ignoreCertificateErrors", InputKind::Boolean, "false", "Whether any certificate is accepted."),
    ];
    AppendFile LWM List [] "Adds text to the end of a file." => &[
        required("path", InputKind::Path, "A file that exists."),
        optional("content", InputKind::Text, "The text; nothing is added to it."),
        ENCODING,
    ];
    CopyFile LWM List [] "Copies files." => TRANSFER;
    CopyFolder LWM List [] "Copies folders with everything inside." => TRANSFER;
    CreateFile LWM List [] "Creates or replaces a file." => &[
        required("path", InputKind::Path, "The file; missing folders are created."),
        optional("content", InputKind::Text, "Its text; empty when left out."),
        ENCODING,
        OWNER,
        GROUP,
        preset("permissions", InputKind::Mode, "0666", "Octal mode; the process's umask limits the default only."),
        OVERWRITE,
    ];
    CreateFolder LWM List [] "Creates a folder; an existing one is emptied." => &[
        required("path", InputKind::Path, "The folder; missing parents are created."),
        OWNER,
        GROUP,
        preset("permissions", InputKind::Mode, "0777", "Octal mode; the process's umask limits the default only."),
        preset("overwrite", InputKind::Boolean, "true", "Whether an existing folder is emptied; `false` makes it an error."),
    ];
    CreateSymlink LM List [] "Creates a symbolic link." => &[
        required("path", InputKind::Path, "The link."),
        required("target", InputKind::Path, "What it points to; must exist."),
        preset("force", InputKind::Boolean, "false", "Whether an existing link is replaced."),
    ];
    DeleteFile LWM List [] "Deletes files." => &[
        required("path", InputKind::WildcardPath, "A file, or a pattern with `*` after the last separator."),
    ];
    DeleteFolder LWM List [] "Deletes a folder." => &[
        required("path", InputKind::Path, "The folder."),
        preset("force", InputKind::Boolean, "false", "Whether a folder that is not empty is deleted."),
    ];
    ListFiles LWM List ["files"] "Lists the files of a folder." => &[
        required("path", InputKind::Path, "A folder that exists."),
        optional("fileNamePattern", InputKind::Text, "Only names that match; `*` stands for any characters."),
        preset("recursive", InputKind::Boolean, "false", "Whether folders below are searched."),
    ];
    MoveFile LWM List [] "Moves or renames files." => TRANSFER;
    MoveFolder LWM List [] "Moves or renames folders." => TRANSFER;
    ReadFile LWM List ["content"] "Reads a text file." => &[
        required("path", InputKind::Path, "The file."),
        ENCODING,
        preset("printFileContent", InputKind::Boolean, "false", "Whether the text is written to console.log."),
    ];
    SetFileEncoding LWM List [] "Rewrites a text file in another encoding." => &[
        required("path", InputKind::Path, "The file."),
        ENCODING,
    ];
    SetFileOwner LM List [] "Changes the owner of a file." => &[
        required("path", InputKind::Path, "The file."),
        required("owner", InputKind::Text, "Name or number of the owner."),
        optional("group", InputKind::Text, "Name or number of the group; the owner's primary group when left out."),
    ];
    SetFolderOwner LM List [] "Changes the owner of a folder." => &[
        required("path", InputKind::Path, "The folder."),
        required("owner", InputKind::Text, "Name or number of the owner."),
        optional("group", InputKind::Text, "Name or number of the group; the owner's primary group when left out."),
        RECURSIVE,
    ];
    SetFilePermissions LM List [] "Changes the mode of a file." => &[
        required("path", InputKind::Path, "The file."),
        required("permissions", InputKind::Mode, "Octal mode."),
    ];
    SetFolderPermissions LM List [] "Changes the mode of a folder." => &[
        required("path", InputKind::Path, "The folder."),
        required("permissions", InputKind::Mode, "Octal mode."),
        RECURSIVE,
    ];
    InstallMSI W Map ["logFile", "msiExitCode", "stdout"] "Installs a Windows Installer package." => MSI;
    UninstallMSI W Map ["logFile", "msiExitCode", "stdout"] "Removes a Windows Installer package." => MSI;
    Reboot LW OptionalMap [] "Reboots; the run goes on with the next step." => &[
        preset("delaySeconds", InputKind::Count, "0", "Seconds to wait before."),
    ];
    SetRegistry W List [] "Writes registry values." => &[
        required("path", InputKind::RegistryPath, "The key, starting with its hive."),
        required("name", InputKind::Text, "Name of the value."),
        required("value", InputKind::RegistryValue, "The value; a list for `MULTI_SZ`."),
        required("type", InputKind::Word(&["BINARY", "DWORD", "QWORD", "SZ", "EXPAND_SZ", "MULTI_SZ"]), "Type of the value."),
    ];
    UpdateOS LW OptionalMap [] "Installs the operating system's updates." => &[
        optional("include", InputKind::Texts, "Only these packages or updates."),
        optional("exclude", InputKind::Texts, "Not these packages or updates."),
    ];
}

impl Action {
    /// The module's row of the table.
    pub fn spec(self) -> &'static ActionSpec {
        &ACTIONS[self as usize]
    }

    /// The module of a name in exact case.
    pub fn from_name(name: &str) -> Option<Self> {
        ACTIONS
            .iter()
            .find(|spec| spec.name == name)
            .map(|spec| spec.action)
    }

    /// The module's name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether a step of this module may set `timeoutSeconds` and `maxAttempts`.
    pub fn has_fixed_attempts(self) -> bool {
        self == Self::ExecuteDocument
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ActionSpec {
    /// The row of an input.
    pub fn input(&self, name: &str) -> Option<&'static InputSpec> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// Whether the module works on a platform.
    pub fn runs_on(&self, platform: Platform) -> bool {
        self.platforms.contains(&platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_and_in_order() {
        assert_eq!(ACTIONS.len(), 30);
        for spec in ACTIONS {
            assert_eq!(spec.action.spec().name, spec.name);
            assert_eq!(Action::from_name(spec.name), Some(spec.action));
        }
        assert_eq!(Action::from_name("executebash"), None);
    }
}
