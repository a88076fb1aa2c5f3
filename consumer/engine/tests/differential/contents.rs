//! What files hold, and how people edit it.

use crate::rng::Rng;

/// Lines, sometimes repetitive, sometimes ended by carriage returns.
pub fn text(rng: &mut Rng) -> Vec<u8> {
    const REPEATED: [&str; 6] = ["{", "}", "", "  x();", "  y();", "end"];
    let (low, high) = *rng
        .pick(&[(0, 3), (6, 14), (14, 40), (90, 160)])
        .unwrap_or(&(1, 2));
    let repetitive = rng.chance(35);
    let end = if rng.chance(10) { "\r\n" } else { "\n" };
    let tag = rng.below(5);
    let mut text = String::new();
    for n in 0..rng.between(low, high) {
        if repetitive && rng.chance(80) {
            text += REPEATED[rng.below(REPEATED.len())];
        } else {
            text += &format!("line {n} of {tag}");
        }
        text += end;
    }
    if rng.chance(10) {
        text += "no newline";
    }
    text.into_bytes()
}

/// Bytes among which there may be any.
pub fn binary(rng: &mut Rng) -> Vec<u8> {
    (0..rng.between(20, 200))
        .map(|n| (n * rng.between(1, 9) % 251) as u8)
        .collect()
}

/// An attributes file.
pub fn attributes(rng: &mut Rng) -> Vec<u8> {
    const LINES: [&str; 15] = [
        "*.txt merge=union",
        "* merge=union",
        "*.c merge=binary",
        "*.c -merge",
        "a* -text",
        "*.bin binary",
        "b binary",
        "*.txt !merge",
        "c merge=text",
        "deep/* merge=union",
        "[attr]mine merge=union",
        "*.c mine",
        "* -text",
        "* text=auto",
        "*.txt text eol=crlf",
    ];
    let mut text = String::new();
    for _ in 0..rng.between(1, 3) {
        text += LINES[rng.below(LINES.len())];
        text.push('\n');
    }
    text.into_bytes()
}

/// With some lines added, moved, replaced or gone.
pub fn edited(content: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = content
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let end = if content.contains(&b'\r') {
        "\r\n"
    } else {
        "\n"
    };
    for _ in 0..rng.between(1, 3) {
        let at = rng.below(lines.len() + 1);
        let new = match rng.below(4) {
            0 => format!("}}{end}"),
            1 => end.to_owned(),
            _ => format!("edit {}{end}", rng.below(4)),
        };
        let new = new.into_bytes();
        match rng.below(6) {
            0 | 1 => lines.insert(at, new),
            2 if at < lines.len() => drop(lines.remove(at)),
            3 if at < lines.len() => {
                let line = lines.remove(at);
                let to = rng.below(lines.len() + 1);
                lines.insert(to, line);
            }
            _ if at < lines.len() => lines[at] = new,
            _ => lines.push(new),
        }
    }
    lines.concat()
}

/// With carriage returns before all line feeds, or without any.
pub fn with_other_line_ends(content: &[u8]) -> Vec<u8> {
    let end: &[u8] = if content.contains(&b'\r') {
        b"\n"
    } else {
        b"\r\n"
    };
    let plain = content.iter().filter(|byte| **byte != b'\r').copied();
    let plain: Vec<u8> = plain.collect();
    plain
        .split_inclusive(|byte| *byte == b'\n')
        .flat_map(|line| match line {
            [start @ .., b'\n'] => [start, end].concat(),
            rest => rest.to_vec(),
        })
        .collect()
}

/// Lines of which many are the same.
pub fn repetitive(rng: &mut Rng) -> Vec<u8> {
    let variety = rng.between(3, REPEATED_LINES.len());
    (0..rng.between(20, 80))
        .flat_map(|_| repeated_line(variety, rng))
        .collect()
}

const REPEATED_LINES: [&str; 7] = ["{", "}", "", "\tx();", "\ty();", "\tif (z)", "\treturn;"];

fn repeated_line(variety: usize, rng: &mut Rng) -> Vec<u8> {
    format!("{}\n", REPEATED_LINES[rng.below(variety)]).into_bytes()
}

/// Adds, removes and repeats runs of lines.
pub fn edit_repetitive(content: &mut Vec<u8>, rng: &mut Rng) {
    let lines = content.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec);
    let mut lines: Vec<Vec<u8>> = lines.collect();
    for _ in 0..rng.between(1, 4) {
        let from = rng.below(lines.len() + 1);
        let to = (from + rng.between(1, 4)).min(lines.len());
        match rng.below(3) {
            0 => drop(lines.drain(from..to)),
            1 => {
                let run = lines[from..to].to_vec();
                let at = rng.below(lines.len() + 1);
                lines.splice(at..at, run);
            }
            _ => {
                let variety = rng.between(3, REPEATED_LINES.len());
                let run: Vec<_> = (0..rng.between(1, 3))
                    .map(|_| repeated_line(variety, rng))
                    .collect();
                lines.splice(from..to, run);
            }
        }
    }
    *content = lines.concat();
}
