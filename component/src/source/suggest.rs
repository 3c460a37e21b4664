//! Nearest-name suggestions for misspelt keys and words.

/// The candidate nearest to `given`, if one is near enough to be a plausible misspelling.
///
/// Case differences and a swapped pair of letters count as little; a candidate further away than a third of its length
/// is not offered, because a wrong hint costs more than none.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A key longer than any real one is not worth the quadratic comparison.
    if given.is_empty() || given.len() > 128 {
        return None;
    }
    let folded = fold(given);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&folded, &fold(candidate));
            let allowed = (candidate.chars().count().max(folded.len()) / 3).max(1);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `time_out-seconds` and `TimeoutSeconds` are the same word to a reader.
fn fold(text: &str) -> Vec<char> {
    text.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, b) in right.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[width - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = [
        "name",
        "action",
        "timeoutSeconds",
        "onFailure",
        "maxAttempts",
    ];

    #[test]
    fn finds_misspellings_and_leaves_strangers_alone() {
        let cases = [
            ("timeoutSecond", Some("timeoutSeconds")),
            ("timeout_seconds", Some("timeoutSeconds")),
            ("onfailure", Some("onFailure")),
            ("nmae", Some("name")),
            ("retries", None),
            ("", None),
        ];
        for (given, wanted) in cases {
            assert_eq!(nearest(given, KEYS), wanted, "{given}");
        }
    }
}
