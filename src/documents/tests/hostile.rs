//! Texts that nobody should write, and that must not harm.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{fixture, parameters};
use crate::documents::load_text;

fn texts() -> Vec<String> {
    let folders = ["whole", "cli-input", "templates"];
    folders
        .iter()
        .flat_map(|folder| fixture(folder).read_dir_utf8().unwrap())
        .map(|entry| entry.unwrap().path().to_owned())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        let _ = load_text("d.yml".into(), &text, &BTreeMap::new());
    }

    /// Good documents with a part cut out, doubled or replaced.
    #[test]
    fn damaged_documents(which in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(), length in 0..40_usize, patch in "\\PC{0,6}|\n|: |- |\\$\\{|!Ref |\\{|\\[") {
        let texts = texts();
        let text = which.get(&texts);
        let chars: Vec<char> = text.chars().collect();
        let start = from.index(chars.len());
        let end = (start + length).min(chars.len());
        let damaged: String = chars[..start].iter().collect::<String>() + &patch + &chars[end..].iter().collect::<String>();
        let given = parameters(&[("BaseImage", "debian-12")]);
        let (_, diagnostics) = load_text("d.yml".into(), &damaged, &given);
        // Rendering slices the text, so it is a part of the promise.
        let _ = diagnostics.render();
    }

    #[test]
    fn functions_of_any_form(name in "Ref|Fn::(Sub|GetAtt|Join|Select|Split|FindInMap|If|Base64|GetAZs|Length|ToJsonString|Equals|ImportValue|Cidr|ForEach::x)", argument in "\\[?\"?[a-z$\\{\\}.,:!\\[\\] \"0-9-]{0,24}\\]?") {
        let text = format!("Resources:\n  Recipe:\n    Type: AWS::ImageBuilder::ImageRecipe\n    Properties:\n      Name:\n        {name}: {argument}\n");
        let _ = load_text("d.yml".into(), &text, &BTreeMap::new()).1.render();
    }
}
