//! Columns that line up.

use console::measure_text_width;

use super::Screen;

/// Rows of cells; the last column takes what room is left.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a line of headings.
    pub fn new(screen: Screen, headings: &[&str]) -> Self {
        let headings = headings.iter().map(|heading| screen.dim(heading));
        Self {
            rows: vec![headings.collect()],
        }
    }

    /// Adds a row; cells may hold colours, and must be clean.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table's lines, each cut to the screen.
    pub fn lines(&self, screen: Screen) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(|column| self.width(column)).collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    let gap = widths[column] - measure_text_width(cell) + 2;
                    line.extend(std::iter::repeat_n(' ', gap));
                }
            }
            screen.fit(line.trim_end())
        };
        let lines: Vec<_> = self.rows.iter().map(line).collect();
        lines.join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| measure_text_width(cell))
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_they_hold_and_lines_are_cut() {
        let screen = Screen {
            width: Some(16),
            ..Screen::plain()
        };
        let mut table = Table::new(screen, &["A", "B"]);
        table.row(["é日本".to_owned(), "one".to_owned()]);
        table.row(["x".to_owned(), "two and many more".to_owned()]);
        assert_eq!(
            table.lines(screen),
            "A      B\né日本  one\nx      two and …"
        );
    }
}
