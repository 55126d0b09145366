//! A table for people: columns as wide as they must be, numbers to the right.

/// The lines of a table; the first row is its head. Columns of which each cell but the head begins with a digit are
/// aligned to the right.
pub(crate) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_number = |cell: &String| cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
    let to_the_right: Vec<bool> =
        (0..columns).map(|column| rows.iter().skip(1).all(|row| is_number(&row[column]))).collect();
    let cell = |row: &Vec<String>, column: usize| {
        let pad = " ".repeat(widths[column] - row[column].chars().count());
        if to_the_right[column] { pad + &row[column] } else { row[column].clone() + &pad }
    };
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = (0..columns).map(|column| cell(row, column)).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A size with its unit, in at most four digits.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", units[unit]) }
}

/// A span of time with its two largest units.
pub(crate) fn span(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{seconds}s"),
        60_000..3_600_000 => format!("{minutes}m{}s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["id", "role"], ["0", "primary"], ["10", "-"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(lines(&rows), ["id  role", " 0  primary", "10  -"]);
    }

    #[test]
    fn sizes_and_spans_have_units() {
        assert_eq!([size(0), size(1023), size(1536), size(3 << 30)], ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([span(7), span(59_999), span(61_000), span(90_000_000)], ["7ms", "59s", "1m1s", "1d1h"]);
    }
}
