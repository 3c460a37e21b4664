//! The words by which problems of component documents are known.

use std::borrow::Cow;
use std::fmt;

use super::diagnostic::Severity;

macro_rules! codes {
    ($($variant:ident $severity:ident $word:literal $about:literal)*) => {
        /// What kind of problem a diagnostic of a component document reports.
        ///
        /// Its word is stable: scripts may rely on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $about] $variant,)*
        }

        impl Code {
            /// All codes: those of the text first, then those of the language, warnings last.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that stands for it, such as `unknown-key`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What it means, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),* }
            }

            /// How bad it is, wherever it is found.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }
        }
    };
}

codes! {
    YamlSyntax Error "yaml-syntax"
        "The text is not YAML."
    TabIndentation Error "tab-indentation"
        "A tab is used for indentation."
    UnquotedStar Error "unquoted-star"
        "A value that starts with `*` stands without quotes."
    UnquotedReference Error "unquoted-reference"
        "A value that starts with `{{` stands without quotes."
    UnquotedValue Error "unquoted-value"
        "A value starts with a character that YAML keeps for itself."
    NestedTooDeeply Error "nested-too-deeply"
        "Lists and maps are nested more than 64 deep."
    DocumentTooComplex Error "document-too-complex"
        "The document has more than 500,000 values once its aliases are expanded."
    DocumentTooLarge Error "document-too-large"
        "The document is larger than 64 KB."
    NotUtf8 Error "not-utf8"
        "The document is not UTF-8 text."
    EmptyDocument Error "empty-document"
        "There is no document."
    SeveralDocuments Error "several-documents"
        "A file holds a second document."
    DuplicateKey Error "duplicate-key"
        "A map has the same key twice."
    BadMerge Error "bad-merge"
        "`<<` is followed by something else than maps."
    RecursiveAlias Error "recursive-alias"
        "An alias stands inside the value that it refers to."
    UnknownKey Error "unknown-key"
        "A map has a key that it cannot have."
    MissingKey Error "missing-key"
        "A map lacks a key that it must have."
    EmptyValue Error "empty-value"
        "Something that needs content has none."
    WrongType Error "wrong-type"
        "A value has another type than it must have."
    OutOfRange Error "out-of-range"
        "A number is too small or too large."
    UnknownWord Error "unknown-word"
        "A value is none of the words that are possible there."
    SchemaVersion Error "schema-version"
        "The version of the language is not 1.0."
    BadName Error "bad-name"
        "The name of a parameter, a constant or a loop does not follow the rules for names."
    DuplicateName Error "duplicate-name"
        "Two parameters or constants have one name."
    FlatParameter Error "flat-parameter"
        "A parameter is written as in workflow documents."
    TooManyParameters Error "too-many-parameters"
        "There are more than 25 parameters."
    BadDefault Error "bad-default"
        "A default does not fit its parameter's type or `allowedValues`."
    NoKnownPhase Error "no-known-phase"
        "There is neither `build` nor `validate` nor `test`."
    DuplicatePhase Error "duplicate-phase"
        "Two phases have one name."
    DuplicateStep Error "duplicate-step"
        "Two steps of a phase have one name."
    UnknownAction Error "unknown-action"
        "There is no module of that name."
    WrongPlatform Error "wrong-platform"
        "The module does not work on a platform that was asked for."
    BlockedAction Error "blocked-action"
        "The module is blocked for this run."
    FixedTimeout Error "fixed-timeout"
        "`timeoutSeconds` of ExecuteDocument is changed."
    FixedAttempts Error "fixed-attempts"
        "`maxAttempts` of ExecuteDocument is changed."
    UnknownInput Error "unknown-input"
        "The module, or the step that is referred to, has no such input."
    MissingInput Error "missing-input"
        "An input that the module needs is not there."
    BadValue Error "bad-value"
        "An input does not have the form that it must have."
    BadDigest Error "bad-digest"
        "A checksum does not have the length of its algorithm, or not only hexadecimal digits."
    CommandsOrFile Error "commands-or-file"
        "ExecutePowerShell has both or none of `commands` and `file`."
    WildcardDestination Error "wildcard-destination"
        "A source with `*` goes to a destination without a final separator."
    MissingOperator Error "missing-operator"
        "A condition has no operator."
    UnknownOperator Error "unknown-operator"
        "A condition has an operator that does not exist."
    SeveralOperators Error "several-operators"
        "A condition has more than one operator."
    MissingOperand Error "missing-operand"
        "A comparison lacks its `value` or `path`."
    SurplusOperand Error "surplus-operand"
        "An operator has a `value` or `path` that it does not take."
    WrongArity Error "wrong-arity"
        "`not` does not have exactly one condition."
    BadPattern Error "bad-pattern"
        "A regular expression cannot be used."
    BothLoops Error "both-loops"
        "A loop has both `for` and `forEach`."
    EndlessLoop Error "endless-loop"
        "A `for` loop would never end, or go on for too long."
    DuplicateLoop Error "duplicate-loop"
        "Two loops of a phase have one name."
    UndeclaredName Error "undeclared-name"
        "A reference names no parameter or constant."
    UnknownLoop Error "unknown-loop"
        "A reference names a loop that this step does not have."
    UnknownStep Error "unknown-step"
        "A reference names a phase or step that does not exist."
    LaterStep Error "later-step"
        "A reference names a step that has not run yet."
    UnknownOutput Error "unknown-output"
        "A reference names an output that the module does not have."
    LoopWithoutLoop Warning "loop-without-loop"
        "`{{ loop.… }}` stands in a step without a loop and stays as it is."
    MissingIndex Warning "missing-index"
        "A reference into a list of inputs has no index."
    ForeignTemplate Warning "foreign-template"
        "Double braces that are no reference stay as they are."
    SecretInArguments Warning "secret-in-arguments"
        "A stored value is an argument of a program, which other processes can see."
    UnusedName Warning "unused-name"
        "A parameter or constant is never used."
    UndocumentedKey Warning "undocumented-key"
        "The service knows this key but does not document it."
    CustomPhase Warning "custom-phase"
        "A phase has a name of your own and runs only when it is asked for."
    UnreferableName Warning "unreferable-name"
        "A phase or step has a name that no reference can hold."
    NoTimeout Warning "no-timeout"
        "A Reboot step has a time limit, which is ignored."
    NoFailureHandling Warning "no-failure-handling"
        "Only the last of several commands decides over the step."
    EndlessReboot Warning "endless-reboot"
        "Nothing stops the script from ending with 194 again and again."
    AptAsks Warning "apt-asks"
        "apt would ask before it installs."
    UnquotedPermissions Warning "unquoted-permissions"
        "Permissions are a number without quotes."
    InsecureDownload Warning "insecure-download"
        "A download is neither encrypted nor verified."
    NoChecksum Warning "no-checksum"
        "A download is not verified."
    HalfChecksum Warning "half-checksum"
        "Only one of `checksum` and `algorithm` is given."
    CertificateErrors Warning "certificate-errors"
        "Certificates are not checked."
    PlainSecret Warning "plain-secret"
        "A secret seems to stand in the document."
}

impl Code {
    /// The code of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.word() == word)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl From<Code> for Cow<'static, str> {
    fn from(code: Code) -> Self {
        Self::Borrowed(code.word())
    }
}
