use std::f32::consts::TAU;

use image::{Rgb, RgbImage};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::raster::{self, Outline};

/// What one generated picture shows, and all that is needed to draw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    pub(super) description: Description,
    pub(super) side: u32,
    // Seed of what the description leaves open: exact places, sizes, angles and hues.
    pub(super) jitter: u64,
}

/// What a caption can say about a scene: `first` stands in `relation` to `second`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Description {
    pub first: Object,
    pub relation: Relation,
    pub second: Object,
    pub background: Background,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub size: Size,
    pub colour: Colour,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Size {
    Small,
    Large,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Cyan,
    Blue,
    Purple,
    Pink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Star,
    Cross,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Relation {
    LeftOf,
    Above,
    InFrontOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Background {
    White,
    LightGrey,
    DarkGrey,
    Black,
}

const COLOURS: [Colour; 8] = {
    use Colour::*;
    [Red, Orange, Yellow, Green, Cyan, Blue, Purple, Pink]
};
const SHAPES: [Shape; 6] = {
    use Shape::*;
    [Circle, Square, Triangle, Diamond, Star, Cross]
};
const RELATIONS: [Relation; 3] = [Relation::LeftOf, Relation::Above, Relation::InFrontOf];
const BACKGROUNDS: [Background; 4] = {
    use Background::*;
    [White, LightGrey, DarkGrey, Black]
};
const HELD_OUT: [(Colour, Shape); 6] = [
    (Colour::Purple, Shape::Circle),
    (Colour::Pink, Shape::Square),
    (Colour::Cyan, Shape::Triangle),
    (Colour::Orange, Shape::Diamond),
    (Colour::Green, Shape::Star),
    (Colour::Yellow, Shape::Cross),
];

impl Description {
    /// Two objects that differ in colour or shape, so that a caption may leave out their sizes.
    pub fn random(rng: &mut impl Rng) -> Self {
        let description = Self {
            relation: pick(&RELATIONS, rng),
            first: Object::random(rng),
            second: Object::random(rng),
            background: pick(&BACKGROUNDS, rng),
        };
        if description.is_visible() { description } else { Self::random(rng) }
    }

    fn is_visible(&self) -> bool {
        let (a, b) = (&self.first, &self.second);
        match self.relation {
            Relation::InFrontOf => {
                a.size == Size::Small && b.size == Size::Large && a.colour != b.colour
            }
            Relation::LeftOf | Relation::Above => (a.colour, a.shape) != (b.colour, b.shape),
        }
    }

    pub fn is_held_out(&self) -> bool {
        [&self.first, &self.second].iter().any(|o| HELD_OUT.contains(&(o.colour, o.shape)))
    }

    #[cfg(test)]
    pub fn without_size_and_background(&self) -> String {
        let kind = |o: &Object| (o.colour, o.shape);
        format!("{:?} {:?} {:?}", kind(&self.first), self.relation, kind(&self.second))
    }
}

impl Object {
    fn random(rng: &mut impl Rng) -> Self {
        Self {
            size: pick(&[Size::Small, Size::Large], rng),
            colour: pick(&COLOURS, rng),
            shape: pick(&SHAPES, rng),
        }
    }

    /// The outline around the origin, in fractions of the picture's side.
    fn outline(&self, rng: &mut impl Rng) -> Outline {
        let radius = match self.size {
            Size::Small => rng.random_range(0.105..0.125),
            Size::Large => rng.random_range(0.19..0.21),
        };
        let outline = self.shape.outline().scaled(radius);
        outline.turned(rng.random_range(-0.12..0.12))
    }
}

impl Shape {
    /// The outline in the unit circle; y grows downwards.
    fn outline(self) -> Outline {
        let regular = |corners: usize, first: f32, radii: [f32; 2]| {
            let corner = |i| {
                let angle = first + TAU * i as f32 / corners as f32;
                let radius = radii[i % 2];
                [radius * angle.cos(), radius * angle.sin()]
            };
            Outline::Polygon((0..corners).map(corner).collect())
        };
        let up = -TAU / 4.0;
        match self {
            Self::Circle => Outline::Circle(0.95),
            Self::Square => regular(4, TAU / 8.0, [1.15, 1.15]),
            Self::Triangle => regular(3, up, [1.15, 1.15]),
            Self::Diamond => regular(4, up, [1.2, 0.75]),
            Self::Star => regular(10, up, [1.2, 0.5]),
            Self::Cross => Outline::Polygon(cross(1.05, 0.35)),
        }
    }
}

/// A cross of four arms that reach `long` from the centre and are `2 · wide` across.
fn cross(long: f32, wide: f32) -> Vec<[f32; 2]> {
    let quarter = [[wide, -wide], [long, -wide], [long, wide]];
    let turn = |[x, y]: [f32; 2], turns| (0..turns).fold([x, y], |[x, y], _| [-y, x]);
    (0..4).flat_map(|turns| quarter.map(|corner| turn(corner, turns))).collect()
}

impl Colour {
    fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [215, 30, 35],
            Self::Orange => [245, 135, 20],
            Self::Yellow => [245, 220, 40],
            Self::Green => [35, 150, 50],
            Self::Cyan => [50, 205, 215],
            Self::Blue => [35, 70, 205],
            Self::Purple => [125, 45, 160],
            Self::Pink => [245, 140, 190],
        }
    }
}

impl Background {
    fn rgb(self) -> [u8; 3] {
        match self {
            Self::White => [250; 3],
            Self::LightGrey => [185; 3],
            Self::DarkGrey => [90; 3],
            Self::Black => [12; 3],
        }
    }
}

impl Scene {
    /// The picture, `side × side` pixels. The same scene is drawn the same way every time; two
    /// scenes of one description differ in places, sizes, angles and hues.
    pub fn draw(&self) -> RgbImage {
        let Description { first, relation, second, background } = &self.description;
        let rng = &mut ChaCha8Rng::seed_from_u64(self.jitter);
        let mut picture = RgbImage::from_pixel(self.side, self.side, Rgb(background.rgb()));
        let [place, behind] = relation.places(rng);
        for (object, place) in [(second, behind), (first, place)] {
            let outline = object.outline(rng);
            raster::fill(&mut picture, &outline, place, hue(object.colour.rgb(), rng));
        }
        picture
    }
}

impl Relation {
    /// The centres of the first and the second object, in fractions of the picture's side.
    fn places(self, rng: &mut impl Rng) -> [[f32; 2]; 2] {
        let mut near = |x: f32, range: f32| x + rng.random_range(-range..range);
        match self {
            Self::LeftOf => {
                [[near(0.26, 0.03), near(0.5, 0.12)], [near(0.74, 0.03), near(0.5, 0.12)]]
            }
            Self::Above => {
                [[near(0.5, 0.12), near(0.26, 0.03)], [near(0.5, 0.12), near(0.74, 0.03)]]
            }
            Self::InFrontOf => {
                let [x, y] = [near(0.5, 0.2), near(0.5, 0.2)];
                [[near(x, 0.03), near(y, 0.03)], [x, y]]
            }
        }
    }
}

fn hue(rgb: [u8; 3], rng: &mut impl Rng) -> [u8; 3] {
    rgb.map(|x| x.saturating_add_signed(rng.random_range(-10..=10)))
}

fn pick<T: Copy>(from: &[T], rng: &mut impl Rng) -> T {
    *from.choose(rng).expect("a list of constants")
}
