//! Texts of web shops as sentences.

/// `text` with HTML's character references as characters (`&amp;`, `&#39;`, `&#x2019;`, and the named
/// ones of [`NAMED`]), and with white space and control characters, of whatever kind, as single spaces.
///
/// Once only: `&amp;lt;` becomes `&lt;`. A reference that isn't known stays as it is.
pub(super) fn clean(text: &str) -> String {
    let decoded = decoded(text);
    let words = decoded.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The names that occur in titles of products.
const NAMED: [(&str, char); 30] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("hellip", '…'),
    ("bull", '•'),
    ("middot", '·'),
    ("times", '×'),
    ("deg", '°'),
    ("plusmn", '±'),
    ("micro", 'µ'),
    ("frac12", '½'),
    ("frac14", '¼'),
    ("frac34", '¾'),
    ("sup2", '²'),
    ("reg", '®'),
    ("copy", '©'),
    ("trade", '™'),
    ("pound", '£'),
    ("euro", '€'),
    ("eacute", 'é'),
    ("uuml", 'ü'),
];

fn decoded(mut text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    while let Some((before, after)) = text.split_once('&') {
        decoded += before;
        let (character, rest) = reference(after).unwrap_or(('&', after));
        decoded.push(character);
        text = rest;
    }
    decoded + text
}

/// What the reference at the start of `text` stands for, and what is behind it.
fn reference(text: &str) -> Option<(char, &str)> {
    let (name, rest) = text.split_once(';')?;
    let character = match name.strip_prefix('#') {
        Some(number) => numbered(number)?,
        None => NAMED.iter().find(|(known, _)| *known == name)?.1,
    };
    Some((character, rest))
}

/// `39`, or `x27`.
fn numbered(number: &str) -> Option<char> {
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_white_space() {
        for (text, expected) in [
            ("Salt &amp; Pepper", "Salt & Pepper"),
            ("Men&#39;s 12&quot; Boots &#x2013; Brown", "Men's 12\" Boots – Brown"),
            ("  Rug\t5&times;8&nbsp;ft\r\n(blue)\u{a0} ", "Rug 5×8 ft (blue)"),
            ("a\u{0}b\u{200a}c", "a b c"),
            ("&amp;lt;", "&lt;"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }

    #[test]
    fn what_is_no_reference_stays() {
        for text in ["A&B; C", "AT&T", "&", "&;", "&#;", "&#x110000;", "R&D &unknown; &#xd800;", ""]
        {
            assert_eq!(clean(text), text);
        }
    }
}
