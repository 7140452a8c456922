//! Regular expressions of subscriptions. Kafka has them compiled by RE2/J, and a topic matches if its whole name does.
//!
//! The `regex` crate has the same semantics (linear time, leftmost-first, no look-around, no back-references) and nearly
//! the same syntax; what it reads otherwise is rewritten first.

use regex::{Regex, RegexBuilder};
use std::iter::Peekable;
use std::str::Chars;

/// What a compiled expression may take, in bytes, and again as much for the cache of its automaton.
const SIZE_LIMIT: usize = 1 << 20;

/// How often something may be repeated at most, in RE2/J too.
const MAX_REPETITIONS: u32 = 1000;

/// An expression that whole names are matched with.
pub(super) struct Compiled(Regex);

impl Compiled {
    pub(super) fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// Compiles an expression, or says what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Compiled, String> {
    let rewritten = rewrite(pattern)?;
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build().map_err(|error| error.to_string())
    };
    // By itself first: `a)(b` is not valid, and would be in parentheses.
    build(&rewritten)?;
    build(&format!(r"\A(?:{rewritten})\z")).map(Compiled)
}

/// Writes a pattern as the `regex` crate understands it.
fn rewrite(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out)?,
            '[' => class(&mut rest, &mut out)?,
            '(' => {
                out.push('(');
                flags(rest.clone())?;
            }
            '{' if !is_repetition(rest.clone())? => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// What follows a backslash outside of a class.
fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    match rest.next() {
        None => return Err("trailing backslash at the end of the expression".into()),
        // Literal text up to \E; what Java's Pattern.quote makes.
        Some('Q') => {
            let mut quoted = String::new();
            while let Some(c) = rest.next() {
                if c == '\\' && rest.next_if_eq(&'E').is_some() {
                    break;
                }
                quoted.push(c);
            }
            out.push_str(&regex::escape(&quoted));
        }
        // Any byte, which RE2/J does not have.
        Some('C') => return Err(r"invalid escape sequence: \C".into()),
        // Edges of words for the `regex` crate.
        Some(c @ ('<' | '>')) => out.push(c),
        Some(c) => escaped(c, rest, out),
    }
    Ok(())
}

/// A character after a backslash, in a class or outside of it.
fn escaped(c: char, rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let digit = |rest: &mut Peekable<Chars<'_>>| rest.next_if(|c| c.is_digit(8)).and_then(|c| c.to_digit(8));
    match c {
        // A number of three octal digits at most; one alone, but for zero, would refer back.
        '0'..='7' if c == '0' || rest.peek().is_some_and(|next| next.is_digit(8)) => {
            let mut code = c.to_digit(8).unwrap_or(0);
            for _ in 0..2 {
                let Some(next) = digit(rest) else { break };
                code = code * 8 + next;
            }
            let literal = char::from_u32(code).unwrap_or_default();
            out.push_str(&regex::escape(&literal.to_string()));
        }
        'p' | 'P' if rest.clone().take(2).eq(['{', '^']) => {
            rest.next();
            rest.next();
            out.push_str(if c == 'p' { r"\P{" } else { r"\p{" });
        }
        c => out.extend(['\\', c]),
    }
}

/// The names that a class may have within it.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// A class, after its bracket: no set operations, no classes in it but `[:name:]`.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('[');
    if let Some(not) = rest.next_if_eq(&'^') {
        out.push(not);
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    while let Some(c) = rest.next() {
        match c {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '\\' => match rest.next() {
                Some(c) => escaped(c, rest, out),
                None => out.push('\\'),
            },
            '[' if rest.peek() == Some(&':') => {
                let name: String = rest.clone().skip(1).take_while(|c| *c != ':').collect();
                if !POSIX.contains(&name.trim_start_matches('^')) {
                    return Err(format!("invalid character class range: [:{name}:]"));
                }
                out.push('[');
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '-' if rest.peek() == Some(&'-') => out.push_str(r"\-"),
            c @ ('[' | '&' | '~') => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    // It is not closed, which the `regex` crate says.
    Ok(())
}

/// After a parenthesis: refuses flags that RE2/J does not have.
fn flags(mut rest: Peekable<Chars<'_>>) -> Result<(), String> {
    if rest.next() != Some('?') {
        return Ok(());
    }
    let flags: String = rest.take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
    match flags.chars().find(|flag| !"imsU-P".contains(*flag)) {
        Some(flag) => Err(format!("unknown flag {flag}")),
        None => Ok(()),
    }
}

/// Whether what follows a brace makes it a repetition: `{2}`, `{2,}`, `{2,3}`. It stands for itself otherwise.
/// RE2/J repeats nothing more than a thousand times. No character is looked at for more than one brace.
fn is_repetition(mut rest: Peekable<Chars<'_>>) -> Result<bool, String> {
    let mut inner = String::new();
    while let Some(c) = rest.next_if(|c| c.is_ascii_digit() || *c == ',') {
        inner.push(c);
    }
    let closed = rest.next() == Some('}');
    if !closed || !inner.starts_with(|c: char| c.is_ascii_digit()) || inner.matches(',').count() > 1 {
        return Ok(false);
    }
    let mut counts = inner.split(',').filter(|count| !count.is_empty());
    if counts.any(|count| count.parse::<u32>().map_or(true, |count| count > MAX_REPETITIONS)) {
        return Err(format!("invalid repetition count: {{{inner}}}"));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_as_a_whole_and_as_re2j_has_it() {
        for (pattern, matching, other) in [
            ("foo.*", vec!["foo", "foobar"], vec!["afoo", ""]),
            ("foo|bar", vec!["foo", "bar"], vec!["foobar", "fo"]),
            (r"\Qa.b\E-[0-9]+", vec!["a.b-12"], vec!["axb-1", "a.b-"]),
            (r"\Qa.b", vec!["a.b"], vec!["axb"]),
            (r"[a&&b]+", vec!["a", "b"], vec!["c"]),
            (r"[]a]+x", vec!["ax"], vec!["bx"]),
            (r"[a[b]", vec!["a", "b"], vec!["c", "ab"]),
            (r"[[:alpha:]]+", vec!["ab"], vec!["a1"]),
            (r"a{2}", vec!["aa"], vec!["a", "aaa"]),
            (r"[\w.-]{1,3}", vec!["a.b", "_", "a-1"], vec!["a.bc"]),
            ("(?i)FOO", vec!["foo", "FoO"], vec!["fo"]),
            ("(?P<n>a)b", vec!["ab"], vec!["a"]),
            ("a$", vec!["a"], vec!["ab"]),
            (r"\pL+", vec!["ab"], vec!["1"]),
            (r"\p{^L}+", vec!["1", "."], vec!["a", "1a"]),
            (r"[\P{^L}]+", vec!["ab"], vec!["1"]),
            (r"a\056[\141\0602]", vec!["a.a", "a.0", "a.2"], vec!["aba", "a.1"]),
            (r"[[:^alpha:]]{1,100}", vec!["12"], vec!["a"]),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            for name in matching {
                assert!(compiled.is_match(name), "{pattern} should match {name}");
            }
            for name in other {
                assert!(!compiled.is_match(name), "{pattern} should not match {name}");
            }
        }
        for brace in ["x{", "x{12"] {
            assert!(compile(brace).is_ok_and(|c| c.is_match(brace)), "a brace that repeats nothing stands for itself");
        }
    }

    /// It is rewritten on the task that serves all groups of a partition. Ten times as long takes ten times as long, where
    /// it took a hundred times: minutes for what a request can hold.
    #[test]
    fn a_long_expression_is_rewritten_in_one_go() {
        for piece in ["{", r"\Q\E", "{1,", r"\Qa"] {
            let pattern = piece.repeat(1 << 18);
            assert!(rewrite(&pattern).is_ok(), "{piece}");
        }
    }

    #[test]
    fn what_is_not_valid_or_too_large_is_refused() {
        let large = "(((a{100}){100}){100}){100}";
        let others = [r"\C", "a{1001}", "a{1,1001}", "a{99999999999}", "[[:foo:]]", r"[\8]", "[a"];
        let valid_nowhere = ["[", "(", "a)(b", "*", r"\", r"(a)\1", "(?=a)", "(?x)a # b", "(?<!a)b", large];
        for pattern in valid_nowhere.into_iter().chain(others) {
            assert!(compile(pattern).is_err(), "{pattern} should be refused");
        }
    }
}
