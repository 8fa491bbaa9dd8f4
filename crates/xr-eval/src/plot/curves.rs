//! Curves over epochs: panels side by side, each with its own scale.

use image::RgbImage;

use super::{
    canvas::{Area, Canvas},
    colour,
    text::{Align, Type},
};

/// One diagram: several curves on one scale.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is drawn: `loss`.
    pub title: String,
    /// What runs to the right: `epoch`.
    pub x: String,
    /// The curves, in the order of the legend.
    pub curves: Vec<Curve>,
    /// A place worth pointing at, such as the best epoch, and its name.
    pub mark: Option<(f64, String)>,
}

/// A named curve.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// `(x, y)`, drawn in this order; what is NaN or infinite is left out.
    pub points: Vec<(f64, f64)>,
}

const MARGIN: f32 = 32.0;
const PANEL: Area = Area { x: 0.0, y: 0.0, width: 600.0, height: 440.0 };
const GAP: f32 = 40.0;
const TITLE: Type = Type::bold(21.0);
const LABEL: Type = Type::regular(15.0);
/// Room of the y axis' numbers, and of the x axis' numbers and name.
const LEFT: f32 = 62.0;
const BOTTOM: f32 = 58.0;
const SWATCH: f32 = 24.0;
const LINE: f32 = 2.5;

/// Draws the panels side by side.
pub fn draw(panels: &[Panel]) -> RgbImage {
    let width = panels.len().max(1) as f32 * (PANEL.width + GAP) - GAP + 2.0 * MARGIN;
    let mut canvas = Canvas::new(width, PANEL.height + 2.0 * MARGIN);
    for (i, panel) in panels.iter().enumerate() {
        let x = MARGIN + i as f32 * (PANEL.width + GAP);
        draw_panel(&mut canvas, panel, Area { x, y: MARGIN, ..PANEL });
    }
    canvas.into_pixels()
}

fn draw_panel(canvas: &mut Canvas, panel: &Panel, area: Area) {
    let y = area.y + TITLE.line_height() / 2.0;
    TITLE.draw(canvas, (area.x, y), Align::Left, &panel.title, colour::INK);
    let top = legend(canvas, panel, area);
    let plot = Area {
        x: area.x + LEFT,
        y: top,
        width: area.width - LEFT - 12.0,
        height: area.bottom() - BOTTOM - top,
    };
    let points = || panel.curves.iter().flat_map(|curve| finite(&curve.points));
    let Some((xs, ys)) = Ticks::of(points().map(|p| p.0)).zip(Ticks::of(points().map(|p| p.1)))
    else {
        let middle = (plot.x + plot.width / 2.0, plot.y + plot.height / 2.0);
        return LABEL.draw(canvas, middle, Align::Centre, "nothing to draw yet", colour::QUIET);
    };
    let scale = Scale { plot, xs, ys };
    scale.axes(canvas, &panel.x);
    if let Some((x, name)) = &panel.mark {
        scale.mark(canvas, *x, name);
    }
    for (curve, colour) in panel.curves.iter().zip(colour::SERIES.iter().cycle()) {
        let points: Vec<_> = finite(&curve.points).map(|p| scale.place(p)).collect();
        for pair in points.windows(2) {
            canvas.line(pair[0], pair[1], LINE, *colour);
        }
        // A single point makes no line.
        if let [only] = points[..] {
            canvas.line(only, only, 3.0 * LINE, *colour);
        }
    }
}

fn finite(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite())
}

/// Names in the colours of their curves, under the title; returns where the plot may begin.
fn legend(canvas: &mut Canvas, panel: &Panel, area: Area) -> f32 {
    let (mut x, mut y) = (area.x, area.y + TITLE.line_height() + 16.0);
    for (curve, colour) in panel.curves.iter().zip(colour::SERIES.iter().cycle()) {
        let width = SWATCH + 8.0 + LABEL.width(&curve.name);
        if x > area.x && x + width > area.right() {
            (x, y) = (area.x, y + LABEL.line_height());
        }
        canvas.line((x + 2.0, y), (x + SWATCH - 2.0, y), LINE + 1.0, *colour);
        LABEL.draw(canvas, (x + SWATCH + 8.0, y), Align::Left, &curve.name, colour::INK);
        x += width + 24.0;
    }
    y + LABEL.line_height() + 20.0
}

struct Scale {
    plot: Area,
    xs: Ticks,
    ys: Ticks,
}

impl Scale {
    fn place(&self, (x, y): (f64, f64)) -> (f32, f32) {
        let right = self.plot.width * self.xs.share(x);
        let up = self.plot.height * self.ys.share(y);
        (self.plot.x + right, self.plot.bottom() - up)
    }

    fn axes(&self, canvas: &mut Canvas, name: &str) {
        let plot = self.plot;
        for (value, label) in self.ys.labels() {
            let y = self.place((0.0, value)).1.round();
            canvas.fill(Area { y, height: 1.0, ..plot }, colour::GRID);
            LABEL.draw(canvas, (plot.x - 10.0, y), Align::Right, &label, colour::QUIET);
        }
        for (value, label) in self.xs.labels() {
            let x = self.place((value, 0.0)).0;
            canvas.fill(
                Area { x: x.round(), y: plot.bottom(), width: 1.0, height: 5.0 },
                colour::QUIET,
            );
            LABEL.draw(canvas, (x, plot.bottom() + 20.0), Align::Centre, &label, colour::QUIET);
        }
        canvas.fill(Area { y: plot.bottom(), height: 1.0, ..plot }, colour::QUIET);
        let under = (plot.x + plot.width / 2.0, plot.bottom() + 46.0);
        LABEL.draw(canvas, under, Align::Centre, name, colour::INK);
    }

    fn mark(&self, canvas: &mut Canvas, x: f64, name: &str) {
        let plot = self.plot;
        let x = self.place((x, 0.0)).0.round();
        canvas.dashes(x, plot.y, plot.bottom(), colour::QUIET);
        // To the left of the line where it would run out on the right.
        let fits = x + LABEL.width(name) + 8.0 < plot.right();
        let (x, align) = if fits { (x + 8.0, Align::Left) } else { (x - 8.0, Align::Right) };
        LABEL.draw(canvas, (x, plot.y - 12.0), align, name, colour::QUIET);
    }
}

/// Round numbers that span the data.
#[derive(Debug, PartialEq)]
struct Ticks {
    first: f64,
    step: f64,
    steps: usize,
}

impl Ticks {
    /// Steps of 1, 2 or 5 times a power of ten, about five of them; `None` without values.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values.fold(None, |span, v| {
            let (low, high) = span.unwrap_or((v, v));
            Some((v.min(low), v.max(high)))
        })?;
        let span = if high > low { high - low } else { high.abs().max(1.0) };
        let rough = span / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough)?;
        let first = (low / step).floor();
        let steps = ((high / step).ceil() - first).max(1.0) as usize;
        Some(Self { first: first * step, step, steps })
    }

    fn share(&self, value: f64) -> f32 {
        ((value - self.first) / (self.step * self.steps as f64)) as f32
    }

    fn labels(&self) -> impl Iterator<Item = (f64, String)> {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        (0..=self.steps).map(move |i| {
            let value = self.first + i as f64 * self.step;
            (value, format!("{value:.decimals$}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> String {
        let ticks = Ticks::of(values.iter().copied()).unwrap();
        ticks.labels().map(|(_, label)| label + " ").collect()
    }

    #[test]
    fn round_numbers() {
        assert_eq!(labels(&[1., 20.]), "0 5 10 15 20 ");
        assert_eq!(labels(&[0.131, 0.52]), "0.1 0.2 0.3 0.4 0.5 0.6 ");
        assert_eq!(labels(&[3.0]), "3 4 ");
        assert_eq!(labels(&[-0.01, 0.03]), "-0.01 0.00 0.01 0.02 0.03 ");
        assert_eq!(Ticks::of([].into_iter()), None);
    }

    #[test]
    fn a_curve_is_drawn_in_its_colour_and_nan_is_left_out() {
        let points = vec![(1., 2.), (2., f64::NAN), (3., 1.)];
        let curves = vec![Curve { name: "train".into(), points }];
        let drawn = draw(&[Panel { curves, ..Default::default() }]);
        let coloured = drawn.pixels().filter(|&&p| p == colour::SERIES[0]).count();
        assert!(coloured > 500, "{coloured}");
    }

    #[test]
    fn nothing_yet() {
        let empty = draw(&[Panel::default()]);
        assert!(empty.pixels().all(|&p| p != colour::SERIES[0]));
    }
}
