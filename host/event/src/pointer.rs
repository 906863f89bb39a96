//! RFC 6901 pointers: where in an event's object a value is. Knows only the syntax.

/// Deepest pointer taken; declared paths bound the recursion of the line parser.
pub(crate) const MAX_TOKENS: usize = 64;
/// Longest pointer taken, in bytes.
pub(crate) const MAX_BYTES: usize = 1024;

/// The pointer's reference tokens, unescaped; none for `""`, the whole event.
pub(crate) fn parse(pointer: &str) -> Result<Vec<String>, String> {
    if pointer.len() > MAX_BYTES {
        return Err(format!("the pointer has {} bytes; at most {MAX_BYTES} are taken", pointer.len()));
    }
    let Some(rest) = pointer.strip_prefix('/') else {
        return if pointer.is_empty() {
            Ok(Vec::new())
        } else {
            Err(format!("{pointer:?} is no RFC 6901 pointer: it must start with \"/\", e.g. \"/{pointer}\""))
        };
    };
    let tokens = rest.split('/').map(unescape).collect::<Option<Vec<_>>>();
    let tokens =
        tokens.ok_or_else(|| format!("{pointer:?} is no RFC 6901 pointer: \"~\" must be followed by 0 or 1"))?;
    if tokens.len() > MAX_TOKENS {
        return Err(format!("the pointer has {} tokens; at most {MAX_TOKENS} are taken", tokens.len()));
    }
    Ok(tokens)
}

/// The array index that a token names: digits without a leading zero.
pub(crate) fn array_index(token: &str) -> Option<u32> {
    let plain = token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    if plain { token.parse().ok() } else { None }
}

fn unescape(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unescaped_and_malformed_pointers_refused() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("/"), Ok(vec![String::new()]));
        assert_eq!(parse("/a~1b/~0/~01/"), Ok(vec!["a/b".into(), "~".into(), "~1".into(), String::new()]));
        for bad in ["a", "a/b", "/~", "/~2", "/a~"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"/a".repeat(MAX_TOKENS)).is_ok());
        assert!(parse(&"/a".repeat(MAX_TOKENS + 1)).is_err());
        assert!(parse(&format!("/{}", "a".repeat(MAX_BYTES))).is_err());
    }

    #[test]
    fn only_plain_decimal_numbers_are_array_indices() {
        assert_eq!(array_index("0"), Some(0));
        assert_eq!(array_index("17"), Some(17));
        for no in ["", "-", "00", "01", "1.0", "+1", "99999999999"] {
            assert_eq!(array_index(no), None, "{no}");
        }
    }
}
