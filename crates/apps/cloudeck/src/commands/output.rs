//! What commands print: trees as JSON or YAML, tables in columns.

use cloudeck_machinery::{Value, json, yaml};

use crate::cli::Format;

/// Prints a tree; a table's caller prints its own.
pub fn print_tree(tree: &Value, format: Format) {
    match format {
        Format::Yaml => print!("{}", yaml::write(tree)),
        Format::Json | Format::Table => {
            // serde_json only lays the text out; the tree is ours.
            let text = json::to_vec(tree);
            let pretty = serde_json::from_slice::<serde_json::Value>(&text)
                .and_then(|v| serde_json::to_string_pretty(&v));
            println!("{}", pretty.unwrap_or_else(|_| tree.to_string()));
        }
    }
}

/// Prints rows under headers, three spaces between columns, as kubectl does.
pub fn print_table(headers: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([headers[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("{}", padded.join("   ").trim_end());
    };
    line(&headers.iter().map(ToString::to_string).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
}
