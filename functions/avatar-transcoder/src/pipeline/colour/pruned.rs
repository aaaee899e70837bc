//! A profile without what colours do not need. Its reader copies every text for each language that names it, and reads a table
//! as often as it is listed, so that a few kilobytes could take gigabytes, and a few megabytes minutes.

/// The header, with the number of tags behind it (ICC.1:2022, 7.2 and 7.3).
const HEADER: usize = 128;

/// The length of an entry of the tag table: its signature, and where its data stand.
const ENTRY: usize = 12;

/// More than the largest profiles of printers, three tables of four inks, need.
const MOST_BYTES: usize = 16 << 20;

/// What colours are converted by: curves and primaries, tables towards the connection space, and white.
const USED: [&[u8; 4]; 13] = [
    b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"A2B0", b"A2B1", b"A2B2", b"wtpt",
    b"chad", b"cicp",
];

/// The profile with those tags, each once; `None` where it is none, or too large.
pub(super) fn pruned(profile: &[u8]) -> Option<Vec<u8>> {
    let header = profile.get(..HEADER)?;
    let count = number(profile, HEADER)?;
    let mut tags: Vec<(&[u8], &[u8])> = Vec::with_capacity(USED.len());
    for entry in profile.get(HEADER + 4..)?.chunks_exact(ENTRY).take(count) {
        let (signature, place) = entry.split_at(4);
        let is_used = USED.iter().any(|used| used.as_slice() == signature);
        if !is_used || tags.iter().any(|(known, _)| *known == signature) {
            continue;
        }
        let (offset, length) = (number(place, 0)?, number(place, 4)?);
        tags.push((signature, profile.get(offset..offset.checked_add(length)?)?));
    }
    let table = HEADER + 4 + tags.len() * ENTRY;
    let bytes = tags.iter().map(|(_, data)| data.len().next_multiple_of(4)).sum::<usize>() + table;
    if bytes > MOST_BYTES {
        return None;
    }
    let mut pruned = Vec::with_capacity(bytes);
    pruned.extend_from_slice(header);
    pruned.extend_from_slice(&u32::try_from(tags.len()).ok()?.to_be_bytes());
    let mut offset = table;
    for (signature, data) in &tags {
        pruned.extend_from_slice(signature);
        pruned.extend_from_slice(&u32::try_from(offset).ok()?.to_be_bytes());
        pruned.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
        offset += data.len().next_multiple_of(4);
    }
    for (_, data) in &tags {
        pruned.extend_from_slice(data);
        pruned.resize(pruned.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(pruned.len()).ok()?.to_be_bytes();
    pruned.get_mut(..4)?.copy_from_slice(&length);
    Some(pruned)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use moxcms::ColorProfile;
    use proptest::prelude::*;

    use super::*;

    fn profile(tags: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut profile = vec![0; HEADER];
        profile.extend_from_slice(&u32::try_from(tags.len()).unwrap().to_be_bytes());
        let mut offset = HEADER + 4 + tags.len() * ENTRY;
        for (signature, data) in tags {
            profile.extend_from_slice(*signature);
            profile.extend_from_slice(&u32::try_from(offset).unwrap().to_be_bytes());
            profile.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
            offset += data.len();
        }
        tags.iter().for_each(|(_, data)| profile.extend_from_slice(data));
        profile
    }

    #[test]
    fn texts_and_repeats_are_left_out_and_what_is_used_is_kept() {
        let table = vec![7; 1001];
        let text = vec![b't'; 5000];
        let mut tags: Vec<(&[u8; 4], &[u8])> = vec![(b"desc", &text), (b"wtpt", b"white")];
        tags.extend(std::iter::repeat_n((b"A2B0", &*table), 2000));
        tags.push((b"B2A0", &table));
        let pruned = pruned(&profile(&tags)).unwrap();
        assert_eq!(pruned.len(), HEADER + 4 + 2 * ENTRY + 8 + 1004);
        assert_eq!(number(&pruned, 0), Some(pruned.len()));
        assert_eq!(number(&pruned, HEADER), Some(2));
        assert_eq!(super::pruned(&pruned).as_deref(), Some(&*pruned));
    }

    #[test]
    fn a_profile_means_the_same_without_them() {
        for original in
            [ColorProfile::new_srgb(), ColorProfile::new_display_p3(), ColorProfile::new_adobe_rgb()]
        {
            let bytes = original.encode().unwrap();
            let pruned = ColorProfile::new_from_slice(&pruned(&bytes).unwrap()).unwrap();
            let whole = ColorProfile::new_from_slice(&bytes).unwrap();
            assert_eq!(pruned.red_colorant, whole.red_colorant);
            assert_eq!(pruned.white_point, whole.white_point);
            assert_eq!(format!("{:?}", pruned.red_trc), format!("{:?}", whole.red_trc));
        }
    }

    #[test]
    fn what_is_too_large_or_stands_nowhere_is_no_profile() {
        let large = vec![0; MOST_BYTES];
        assert!(pruned(&profile(&[(b"A2B0", &large)])).is_none());
        let mut beyond = profile(&[(b"A2B0", b"table")]);
        beyond.pop();
        assert!(pruned(&beyond).is_none());
        assert!(pruned(b"").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_pruned_to_no_more_than_the_tags_could_hold(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(pruned) = pruned(&bytes) {
                prop_assert!(pruned.len() <= HEADER + 4 + USED.len() * (ENTRY + 400));
            }
        }
    }
}
