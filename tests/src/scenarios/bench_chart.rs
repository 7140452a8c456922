//! The ratios of a benchmark as a picture.

use std::fmt::Write as _;

const LINE: usize = 22;
const LEFT: usize = 330;
const WIDTH: f64 = 460.0;
/// Ratios beyond 16 and below 1/16 are drawn as these.
const OCTAVES: f64 = 4.0;

/// Bars from the middle, which is a ratio of one, to the right where the first is better and to the left where it is
/// worse; twice as good is always the same length. Of each: its name, the ratio, and whether more is better.
pub(super) fn chart(title: &str, ratios: &[(&str, f64, bool)]) -> String {
    let (height, middle) = (LINE * (ratios.len() + 2), LEFT as f64 + WIDTH / 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"4\" y=\"16\">{}</text>\n",
        LEFT + WIDTH as usize + 60,
        escaped(title),
    );
    for (i, (name, ratio, more)) in ratios.iter().enumerate() {
        let top = LINE * (i + 1) + 6;
        let better = if *more { *ratio } else { 1.0 / ratio };
        let length = better.log2().clamp(-OCTAVES, OCTAVES) / OCTAVES * WIDTH / 2.0;
        let (x, colour) = if length < 0.0 { (middle + length, "#c0504d") } else { (middle, "#4f9d69") };
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{}\">{}</text><rect x=\"{x:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" \
             fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{ratio:.2}</text>",
            top + 13,
            escaped(name),
            length.abs(),
            LINE - 5,
            LEFT + WIDTH as usize + 8,
            top + 13,
        );
    }
    let _ = writeln!(svg, "<line x1=\"{middle}\" x2=\"{middle}\" y1=\"24\" y2=\"{height}\" stroke=\"black\"/></svg>");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_better_goes_to_the_right_whether_more_or_less_is_better() {
        let svg = chart("a < b", &[("speed", 2.0, true), ("delay", 0.5, false), ("memory", 4.0, false)]);
        let bars: Vec<_> = svg.lines().filter(|line| line.contains("height=\"17\"")).collect();
        assert_eq!(bars.len(), 3);
        assert!(bars[0].contains("#4f9d69") && bars[1].contains("#4f9d69") && bars[2].contains("#c0504d"), "{svg}");
        assert!(bars[0].contains("x=\"560.0\"") && bars[2].contains("x=\"445.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }
}
