//! Kubernetes quantities (`500m`, `1Gi`), compared by value.
//!
//! The API server rewrites quantities into a canonical form; without this, an object would seem changed for ever.

/// The value of a quantity, as an exact number of 10⁻⁹ units; `None` if it is not one, or too large to say.
pub fn nanos(text: &str) -> Option<i128> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let scale = scale(suffix)?;
    let digits = format!("{whole}{fraction}").parse::<i128>().ok()?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // Rounded up, as Kubernetes does with what is finer than its unit.
    let scaled = digits.checked_mul(scale)?;
    let value = scaled / divisor + i128::from(scaled % divisor != 0);
    Some(if negative { -value } else { value })
}

/// Whether both are quantities, and of the same value.
pub fn equal(a: &str, b: &str) -> bool {
    nanos(a).is_some_and(|a| nanos(b) == Some(a))
}

/// How many 10⁻⁹ units one unit of the suffix is.
fn scale(suffix: &str) -> Option<i128> {
    const ONE: i128 = 1_000_000_000;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => ONE,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "P" => ONE * 1_000_000_000_000_000,
        "E" => ONE * 1_000_000_000_000_000_000,
        "Ki" => ONE << 10,
        "Mi" => ONE << 20,
        "Gi" => ONE << 30,
        "Ti" => ONE << 40,
        "Pi" => ONE << 50,
        "Ei" => ONE << 60,
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            10_i128.checked_pow(u32::try_from(power.checked_add(9)?).ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_equal_however_it_is_written() {
        for (a, b) in
            [("1", "1000m"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi"), ("1", "1")]
        {
            assert!(equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn other_amounts_and_other_texts_are_not_equal() {
        for (a, b) in
            [("1", "2"), ("1G", "1Gi"), ("", ""), ("cpu", "cpu"), ("1.2.3", "1.2.3"), ("1Xi", "1Xi"), ("-1", "1")]
        {
            assert!(!equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn an_absurd_amount_is_no_quantity() {
        for text in ["1e999999999", "99999999999999999999999999999999999999999", "1e-2147483648"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
