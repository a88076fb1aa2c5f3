//! Long lines into several that fit.

use console::measure_text_width;

/// The line, broken at spaces into lines of no more than `width` columns, all but the first of them
/// `indent` columns in.
///
/// A word that does not fit a line of its own stays whole, so that an id, a path or a URL can still be
/// copied. Spaces within a line stay as they are. Escape sequences take up no columns; a style that
/// spans a break goes on after it.
pub(super) fn fold(line: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut has_word = false;
    for piece in line.split_inclusive(' ') {
        let word = measure_text_width(piece.trim_end_matches(' '));
        if has_word && word > 0 && measure_text_width(&current) + word > width {
            lines.push(current.trim_end().to_owned());
            current = " ".repeat(indent);
            has_word = false;
        }
        current.push_str(piece);
        has_word |= word > 0;
    }
    lines.push(current);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces_and_go_on_further_in() {
        let line = "  one two  three four";
        assert_eq!(fold(line, 21, 4), [line]);
        assert_eq!(fold(line, 20, 4), ["  one two  three", "    four"]);
        assert_eq!(fold(line, 10, 4), ["  one two", "    three", "    four"]);
        assert_eq!(fold("", 10, 4), [""]);
    }

    #[test]
    fn a_word_that_is_too_long_stays_whole() {
        let long = "0123456789abcdef";
        assert_eq!(fold(long, 10, 2), [long]);
        assert_eq!(
            fold(&format!("  at {long} or so"), 10, 4),
            ["  at", &format!("    {long}"), "    or so"]
        );
    }

    #[test]
    fn columns_are_counted_as_the_terminal_shows_them() {
        let styled = "\u{1b}[31mred\u{1b}[0m and blue";
        assert_eq!(fold(styled, 12, 0), [styled]);
        assert_eq!(fold("日本 日本", 9, 0), ["日本 日本"]);
        assert_eq!(fold("日本 日本", 8, 0), ["日本", "日本"]);
    }
}
