//! What is needed of the XML that services answer with.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The texts of all elements called `name`, in order. What is not well-formed ends the list.
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                open = (element.local_name().as_ref() == name.as_bytes()).then(String::new);
            }
            Ok(Event::Text(text)) => {
                if let (Some(open), Ok(text)) = (&mut open, text.decode()) {
                    open.push_str(&text);
                }
            }
            Ok(Event::GeneralRef(reference)) => {
                if let (Some(open), Ok(entity)) = (&mut open, reference.decode()) {
                    let character = match entity.as_ref() {
                        "amp" => Some('&'),
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "quot" => Some('"'),
                        "apos" => Some('\''),
                        _ => reference.resolve_char_ref().ok().flatten(),
                    };
                    open.extend(character);
                }
            }
            Ok(Event::End(element)) => {
                if element.local_name().as_ref() == name.as_bytes()
                    && let Some(text) = open.take()
                {
                    found.push(text.trim().to_owned());
                }
                open = None;
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

/// The insides of the outermost elements called `name`, in order. What is not well-formed ends the list.
pub fn elements<'x>(xml: &'x str, name: &str) -> Vec<&'x str> {
    let mut reader = Reader::from_str(xml);
    let mut found = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) if element.local_name().as_ref() == name.as_bytes() => {
                let end = element.to_end().into_owned();
                let Ok(span) = reader.read_to_end(end.name()) else {
                    return found;
                };
                let index = |at| usize::try_from(at).ok();
                found.extend(
                    index(span.start)
                        .zip(index(span.end))
                        .and_then(|(start, end)| xml.get(start..end)),
                );
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_texts_by_name_only() {
        let xml = "<a xmlns='x'><b>1 &lt; 2</b><c><b>&#65;</b></c><b/><d>no</d></a>";
        assert_eq!(texts(xml, "b"), ["1 < 2", "A"]);
        assert!(texts("<a><b>cut", "b").is_empty());
    }

    #[test]
    fn elements_hold_what_is_in_them() {
        let xml =
            "<a><item><b>1</b><c><item>x</item></c></item><item/><d/><item><b>2</b></item></a>";
        let items = elements(xml, "item");
        assert_eq!(items, ["<b>1</b><c><item>x</item></c>", "<b>2</b>"]);
        assert_eq!(texts(items[0], "b"), ["1"]);
        assert!(elements("<a><item><b>", "item").is_empty());
    }
}
