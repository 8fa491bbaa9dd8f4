//! Sentences about a scene.

use rand::{Rng, seq::IndexedRandom};

use super::scene::{Background, Colour, Description, Object, Relation, Scene, Shape, Size};

/// A sentence about `scene`. Forms repeat after five: all in order, all in reverse, both shapes
/// without the background in two ways, and one shape alone, which fits other pictures too.
pub(super) fn caption(scene: &Scene, form: u32, rng: &mut impl Rng) -> String {
    let Description { first, relation, second, background } = &scene.description;
    let (sized, maybe) = (1.0, 0.5);
    match form % 5 {
        0 => {
            let [a, b] = [noun(first, sized, rng), noun(second, sized, rng)];
            format!("{a} {} {b} {}", relation.forward(rng), behind(background, rng))
        }
        1 => {
            let [a, b] = [noun(first, sized, rng), noun(second, sized, rng)];
            format!("{b} {} {a} {}", relation.backward(rng), behind(background, rng))
        }
        2 => {
            let [a, b] = [noun(first, maybe, rng), noun(second, maybe, rng)];
            format!(
                "{} {a} {} {b}",
                word(&["there is", "a picture of", "we see"], rng),
                relation.forward(rng)
            )
        }
        3 => {
            let [a, b] = [noun(first, maybe, rng), noun(second, maybe, rng)];
            format!("{b} with {a} {}", relation.aside())
        }
        _ => {
            let object = if rng.random() { first } else { second };
            format!("{} {}", noun(object, sized, rng), behind(background, rng))
        }
    }
}

/// An object with its article; its size is said with probability `sized`.
fn noun(object: &Object, sized: f64, rng: &mut impl Rng) -> String {
    let (colour, shape) = (object.colour.word(rng), object.shape.word(rng));
    let said = if rng.random_bool(sized) {
        format!("{} {colour} {shape}", object.size.word(rng))
    } else {
        format!("{colour} {shape}")
    };
    format!("{} {said}", if said.starts_with('o') { "an" } else { "a" })
}

fn behind(background: &Background, rng: &mut impl Rng) -> String {
    let shade = match background {
        Background::White => "white",
        Background::LightGrey => "light grey",
        Background::DarkGrey => "dark grey",
        Background::Black => "black",
    };
    let place = word(&["on a", "against a"], rng);
    format!("{place} {shade} background")
}

impl Relation {
    /// What stands between the first object and the second.
    fn forward(self, rng: &mut impl Rng) -> &'static str {
        match self {
            Self::LeftOf => word(&["to the left of", "left of"], rng),
            Self::Above => word(&["above", "over"], rng),
            Self::InFrontOf => word(&["in front of", "covering the middle of"], rng),
        }
    }

    /// What stands between the second object and the first.
    fn backward(self, rng: &mut impl Rng) -> &'static str {
        match self {
            Self::LeftOf => word(&["to the right of", "right of"], rng),
            Self::Above => word(&["below", "under"], rng),
            Self::InFrontOf => "behind",
        }
    }

    /// Where the first object stands, the second being "it".
    fn aside(self) -> &'static str {
        match self {
            Self::LeftOf => "on its left",
            Self::Above => "above it",
            Self::InFrontOf => "in front of it",
        }
    }
}

impl Size {
    fn word(self, rng: &mut impl Rng) -> &'static str {
        match self {
            Self::Small => word(&["small", "little"], rng),
            Self::Large => word(&["large", "big"], rng),
        }
    }
}

impl Colour {
    fn word(self, rng: &mut impl Rng) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Cyan => word(&["cyan", "turquoise"], rng),
            Self::Blue => "blue",
            Self::Purple => word(&["purple", "violet"], rng),
            Self::Pink => "pink",
        }
    }
}

impl Shape {
    fn word(self, rng: &mut impl Rng) -> &'static str {
        match self {
            Self::Circle => word(&["circle", "disc"], rng),
            Self::Square => word(&["square", "box"], rng),
            Self::Triangle => "triangle",
            Self::Diamond => word(&["diamond", "rhombus"], rng),
            Self::Star => "star",
            Self::Cross => word(&["cross", "plus sign"], rng),
        }
    }
}

fn word(words: &[&'static str], rng: &mut impl Rng) -> &'static str {
    words.choose(rng).expect("a list of constants")
}
