//! The name of the file in a form upload, which S3 puts into the key for `${filename}`.

use std::sync::{Arc, Mutex, PoisonError};

/// What a form has in the place of the file's name.
const VARIABLE: &str = "${filename}";
/// How the file's part begins, as browsers and clients write it.
const FILE: &[u8] = b"name=\"file\"; filename=\"";
/// As far as it is looked for, in bytes.
const LIMIT: usize = 1 << 20;

#[derive(Debug, Default)]
struct State {
    seen: Vec<u8>,
    name: Option<String>,
}

/// Looks for the file's name while the form passes by, because s3s does not tell it.
#[derive(Debug, Clone, Default)]
pub(super) struct FileName(Arc<Mutex<State>>);

impl FileName {
    /// Looks at the next piece of the form.
    pub(super) fn watch(&self, piece: &[u8]) {
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.name.is_some() || state.seen.len() > LIMIT {
            return;
        }
        state.seen.extend_from_slice(piece);
        let start = state.seen.windows(FILE.len()).position(|window| window == FILE);
        let rest = start.and_then(|start| state.seen.get(start + FILE.len()..));
        let name = rest.and_then(|rest| rest.get(..rest.iter().position(|byte| *byte == b'"')?));
        if let Some(name) = name {
            let name = String::from_utf8_lossy(name);
            // A browser may send the path on its machine.
            state.name = Some(name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned());
            state.seen = Vec::new();
        }
    }

    /// The key with the file's name in it.
    pub(super) fn fill(&self, key: &str) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        key.replace(VARIABLE, state.name.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_however_the_form_is_cut() {
        let form = b"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nup/${filename}\r\n--x\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"C:\\a\\pic.png\"\r\n\r\nabc\r\n--x--";
        for size in [1, 7, form.len()] {
            let name = FileName::default();
            form.chunks(size).for_each(|piece| name.watch(piece));
            assert_eq!(name.fill("up/${filename}"), "up/pic.png");
            assert_eq!(name.fill("up/1"), "up/1");
        }
    }
}
