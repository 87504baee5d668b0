//! For tests that change rows directly and do not mean them to be damaged: writes correct checksums into all rows.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, ToSql, params_from_iter};

use super::columns::{INFO, PENDING, pending_columns, right_sum};
use super::hubs::About;
use super::trouble::Trouble;
use crate::sql::{Key, Place, Words, chunk_words, count_sum, hub_sum, key_words, outbox_words, payload_sum, print};

/// Puts right checksums on all rows of a store's file.
///
/// # Panics
///
/// If a row cannot be read at all.
pub fn resum(file: &Connection) {
    if let Err(trouble) = all(file) {
        panic!("rows that cannot be read have no checksum: {trouble:?}");
    }
}

/// Table, key columns, columns to read, and the checksum of these columns.
type Table = (
    &'static str,
    &'static [&'static str],
    &'static str,
    fn(&Row<'_>) -> Result<i64, Trouble>,
);

fn all(file: &Connection) -> Result<(), Trouble> {
    let tables: [Table; 10] = [
        (
            "store",
            &["only"],
            "epoch_floor, is_open, log_salt, log_before",
            |row| Ok(About::of(row)?.sum()),
        ),
        ("hub", &["hub"], "hub, folded, name, partitions, created_at", |row| {
            let (folded, name) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            Ok(hub_sum(row.get(0)?, folded, name, row.get(3)?, row.get(4)?))
        }),
        (
            "part",
            &["part"],
            "part, hub, ix, epoch, is_clean, next_seq, next_number, items",
            |row| {
                let mut words = [0; 8];
                for (column, word) in words.iter_mut().enumerate() {
                    *word = row.get(column)?;
                }
                Ok(Words::new(words).sum(&[]))
            },
        ),
        ("instance", &["inst"], INFO, right_sum),
        (
            "payload",
            &["inst", "place", "ordinal"],
            "inst, place, ordinal, body",
            |row| {
                let number: i64 = row.get(1)?;
                let place = Place::from_number(number);
                let Some(place) = place else { return Ok(0) };
                let print = print(row.get_ref(3)?.as_blob()?);
                Ok(payload_sum(Key(row.get(0)?), place, row.get(2)?, print))
            },
        ),
        (
            "history",
            &["inst", "ordinal", "first"],
            "inst, ordinal, first, events, is_cut, body",
            |row| {
                let words = chunk_words(Key(row.get(0)?), row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
                Ok(words.sum(row.get_ref(5)?.as_blob()?))
            },
        ),
        ("pending", &["inst", "lane", "ev"], PENDING, |row| {
            Ok(pending_columns(row)?.sum(row.get_ref(8)?.as_blob()?))
        }),
        ("outbox", &["part", "seq", "ix"], "part, seq, ix, body", |row| {
            let words = outbox_words(row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(words.sum(row.get_ref(3)?.as_blob()?))
        }),
        ("seen_key", &["inst", "seq"], "inst, seq, until, key", |row| {
            let words = key_words(Key(row.get(0)?), row.get(1)?, row.get(2)?);
            Ok(words.sum(row.get_ref(3)?.as_str()?.as_bytes()))
        }),
        ("status_count", &["part", "status"], "part, status, n", |row| {
            Ok(count_sum(row.get(0)?, row.get(1)?, row.get(2)?))
        }),
    ];
    for (table, key, columns, sum) in tables {
        let mut sums: Vec<(Vec<Value>, i64)> = Vec::new();
        let order = key.join(", ");
        let mut select = file.prepare(&format!("SELECT {columns} FROM {table} ORDER BY {order}"))?;
        let mut keys = file.prepare(&format!("SELECT {order} FROM {table} ORDER BY {order}"))?;
        let (mut rows, mut key_rows) = (select.query([])?, keys.query([])?);
        while let (Some(row), Some(key_row)) = (rows.next()?, key_rows.next()?) {
            let key: Result<Vec<Value>, _> = (0..key.len()).map(|column| key_row.get(column)).collect();
            // What cannot be read keeps its checksum.
            if let Ok(sum) = sum(row) {
                sums.push((key?, sum));
            }
        }
        drop((rows, key_rows));
        let condition: Vec<String> = (2..)
            .zip(key)
            .map(|(place, name)| format!("{name} = ?{place}"))
            .collect();
        let mut update = file.prepare(&format!(
            "UPDATE {table} SET sum = ?1 WHERE {}",
            condition.join(" AND ")
        ))?;
        for (key, sum) in sums {
            let sum: [&dyn ToSql; 1] = [&sum];
            let key = key.iter().map(|value| -> &dyn ToSql { value });
            update.execute(params_from_iter(sum.into_iter().chain(key)))?;
        }
    }
    Ok(())
}
