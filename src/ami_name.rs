//! What EC2 takes for the name of an AMI, by the reference of `RegisterImage`.

/// What everybody is told who gave a name that does not fit.
pub const RULE: &str =
    "an AMI's name has 3 to 128 of letters, digits, spaces and ( ) [ ] . / - ' @ _";

/// Whether a name may have this character.
pub fn fits(character: char) -> bool {
    character.is_ascii_alphanumeric() || " ()[]./-'@_".contains(character)
}

/// Why a text can't be the name of an AMI.
pub fn problem(name: &str) -> Option<String> {
    let length = name.chars().count();
    match name.chars().find(|c| !fits(*c)) {
        Some(wrong) => Some(format!("`{wrong}` is not allowed in it")),
        None if !(3..=128).contains(&length) => Some(format!("it has {length} characters")),
        None => None,
    }
}
