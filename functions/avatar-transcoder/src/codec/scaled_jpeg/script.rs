//! What a progressive file holds: its scans, and whether together they tell every coefficient to the last bit.
//! Anything out of the ordinary is `None`.

use memchr::memchr;

use super::markers::{Codes, Frame, Tables, next_marker};

/// More scans than this are left to libjpeg-turbo, which refuses more than 500. Common files have ten.
const SCANS: usize = 100;

/// Further bits than these no scan may leave to later ones.
const MOST_LOW: u8 = 13;

/// A progressive picture before its coefficients.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component<'a>>,
    pub(super) scans: Vec<Scan<'a>>,
}

/// One of one or three components.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component<'a> {
    /// Blocks across and down in every unit of a scan of several components.
    pub(super) blocks: (usize, usize),
    /// All blocks, across and down, without those that fill up units.
    pub(super) size: (usize, usize),
    /// Divisors of the coefficients, in zigzag order.
    pub(super) divisors: &'a [u8; 64],
}

/// A part of what there is to tell.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    /// Which components are told of, by their places, with the codes for them, if any are needed.
    pub(super) components: Vec<(usize, Option<Codes<'a>>)>,
    /// The first and last coefficient, in zigzag order.
    pub(super) band: (usize, usize),
    /// Whether it is the first that tells of them. Later ones add a bit.
    pub(super) is_first: bool,
    /// How many bits are left to later scans.
    pub(super) low: u32,
    /// Units between two restart markers; 0 where there are none.
    pub(super) restart_interval: usize,
    /// From behind the header of the scan to the end of the marker that follows it.
    pub(super) data: &'a [u8],
}

/// The bits of each coefficient of a component that are left to be told; `None` before the first scan of it.
type Left = [Option<u8>; 64];

impl<'a> Script<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        let (mut frame, mut tables, mut restart_interval) = (None::<Frame>, Tables::default(), 0);
        let mut scans = Vec::new();
        let mut left: Vec<Left> = Vec::new();
        loop {
            let marker;
            (marker, rest) = next_marker(rest)?;
            if marker == 0xd9 {
                break;
            }
            let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
            let payload = rest.get(2..length)?;
            rest = &rest[length..];
            match marker {
                0xc2 if frame.is_none() => {
                    let read = Frame::read(payload)?;
                    left = vec![[None; 64]; read.components.len()];
                    frame = Some(read);
                }
                0xc4 => tables.read_codes(payload)?,
                // Which of several tables of one number counts depends on the scan.
                0xdb if scans.is_empty() => tables.read_divisors(payload)?,
                0xdd => restart_interval = usize::from(u16::from_be_bytes(payload.try_into().ok()?)),
                // Application segments and comments.
                0xe0..=0xef | 0xfe => {}
                0xda if scans.len() < SCANS => {
                    let (data, behind) = entropy_coded(rest)?;
                    let mut scan = Scan::read(frame.as_ref()?, &tables, payload, &mut left)?;
                    (scan.restart_interval, scan.data, rest) = (restart_interval, data, behind);
                    scans.push(scan);
                }
                _ => return None,
            }
        }
        let frame = frame?;
        // What is not told to the end libjpeg-turbo smooths.
        left.iter().flatten().all(|bits| *bits == Some(0)).then_some(())?;
        let components = components(&frame, &tables)?;
        Some(Self { width: frame.width, height: frame.height, components, scans })
    }

    /// Blocks of all components.
    pub(super) fn blocks(&self) -> usize {
        self.components.iter().map(|component| component.size.0 * component.size.1).sum()
    }
}

fn components<'a>(frame: &Frame, tables: &Tables<'a>) -> Option<Vec<Component<'a>>> {
    let factors: Vec<(usize, usize)> =
        frame.components.iter().map(|(_, hv, _)| (usize::from(hv >> 4), usize::from(hv & 15))).collect();
    let most = (factors.iter().map(|(h, _)| *h).max()?, factors.iter().map(|(_, v)| *v).max()?);
    let in_range = |factor| (1..=4).contains(&factor);
    let in_unit: usize = factors.iter().map(|(h, v)| h * v).sum();
    let is_usual = factors.iter().all(|(h, v)| in_range(*h) && in_range(*v))
        && (factors.len() == 1 || in_unit <= 10)
        && matches!(factors.len(), 1 | 3)
        && frame.width > 0
        && frame.height > 0;
    is_usual.then_some(())?;
    let part = |side: usize, factor: usize, most: usize| (side * factor).div_ceil(most * 8);
    let components = factors.iter().zip(&frame.components).map(|((h, v), (_, _, table))| {
        Some(Component {
            blocks: if factors.len() == 1 { (1, 1) } else { (*h, *v) },
            size: (part(frame.width, *h, most.0), part(frame.height, *v, most.1)),
            divisors: (*tables.divisors.get(usize::from(*table))?)?,
        })
    });
    components.collect()
}

impl<'a> Scan<'a> {
    /// Reads a scan's header, and marks in `left` what it tells.
    fn read(frame: &Frame, tables: &Tables<'a>, payload: &[u8], left: &mut [Left]) -> Option<Self> {
        let (count, payload) = payload.split_first()?;
        let count = usize::from(*count);
        let (selectors, last) = payload.split_at_checked(2 * count)?;
        let [first, last, bits] = *last else { return None };
        let (high, low) = (bits >> 4, bits & 15);
        let band = (usize::from(first), usize::from(last));
        let is_mean = first == 0;
        let is_usual = if is_mean { last == 0 && count > 0 } else { band.0 <= band.1 && count == 1 };
        let steps_down = high == 0 || low + 1 == high;
        (is_usual && band.1 < 64 && steps_down && low <= MOST_LOW).then_some(())?;
        let mut components = Vec::with_capacity(count);
        for [id, numbers] in selectors.as_chunks::<2>().0 {
            let place = frame.components.iter().position(|(other, ..)| other == id)?;
            // Once each, in the frame's order.
            components.last().is_none_or(|(before, _)| *before < place).then_some(())?;
            let codes = match (is_mean, high) {
                (true, 0) => Some((*tables.dc.get(usize::from(numbers >> 4))?)?),
                (true, _) => None,
                (false, _) => Some((*tables.ac.get(usize::from(numbers & 15))?)?),
            };
            components.push((place, codes));
            let left = left.get_mut(place)?;
            // Means come first, everything once, and then bit by bit.
            (is_mean || left[0].is_some()).then_some(())?;
            for bits in &mut left[band.0..=band.1] {
                (*bits == (high > 0).then_some(high)).then_some(())?;
                *bits = Some(low);
            }
        }
        let low = u32::from(low);
        Some(Self { components, band, is_first: high == 0, low, restart_interval: 0, data: &[] })
    }
}

/// Splits behind the marker that ends a scan, and before it, where the next segment is looked for.
fn entropy_coded(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr(0xff, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0 | 0xd0..=0xd7 => at += 2,
            _ => {
                let (_, behind) = next_marker(&bytes[at..])?;
                return Some((&bytes[..bytes.len() - behind.len()], &bytes[at..]));
            }
        }
    }
}
