//! What stands before the scan: frame, tables, restart interval. Anything out of the ordinary is `None`.

/// A Huffman table as it is written: how many codes there are of each length, and their symbols.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Codes<'a> {
    pub(super) counts: &'a [u8; 16],
    pub(super) symbols: &'a [u8],
}

/// One of one or three components.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component<'a> {
    /// Blocks across and down in every unit of the scan.
    pub(super) blocks: (usize, usize),
    pub(super) coding: Coding<'a>,
}

/// How the blocks of a component are coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Coding<'a> {
    /// Divisors of the coefficients, in zigzag order.
    pub(super) divisors: &'a [u8; 64],
    pub(super) dc: Codes<'a>,
    pub(super) ac: Codes<'a>,
}

/// A picture of one scan.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component<'a>>,
    /// Units between two restart markers; 0 where there are none.
    pub(super) restart_interval: usize,
    /// Everything after the header of the scan.
    pub(super) data: &'a [u8],
}

/// The frame's own words.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Identifier, sampling factors, number of the table of divisors.
    pub(super) components: Vec<(u8, u8, u8)>,
}

impl Frame {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let [8, h1, h0, w1, w0, count, components @ ..] = payload else { return None };
        let (components, rest) = components.as_chunks::<3>();
        (rest.is_empty() && components.len() == usize::from(*count)).then_some(())?;
        Some(Self {
            width: usize::from(u16::from_be_bytes([*w1, *w0])),
            height: usize::from(u16::from_be_bytes([*h1, *h0])),
            components: components.iter().map(|&[id, factors, table]| (id, factors, table)).collect(),
        })
    }
}

/// Tables by their numbers; a later one of the same number replaces an earlier one.
#[derive(Default)]
pub(super) struct Tables<'a> {
    pub(super) divisors: [Option<&'a [u8; 64]>; 4],
    pub(super) dc: [Option<Codes<'a>>; 4],
    pub(super) ac: [Option<Codes<'a>>; 4],
}

impl<'a> Tables<'a> {
    pub(super) fn read_divisors(&mut self, mut payload: &'a [u8]) -> Option<()> {
        while let Some((number, rest)) = payload.split_first() {
            let (divisors, rest) = rest.split_first_chunk()?;
            // The high half is the precision: 16 bits are for 12-bit pictures.
            *self.divisors.get_mut(usize::from(*number))? = Some(divisors);
            payload = rest;
        }
        Some(())
    }

    pub(super) fn read_codes(&mut self, mut payload: &'a [u8]) -> Option<()> {
        while let Some((number, rest)) = payload.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|count| usize::from(*count)).sum::<usize>();
            (total <= 256).then_some(())?;
            let (symbols, rest) = rest.split_at_checked(total)?;
            let tables = if number & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(number & !0x10))? = Some(Codes { counts, symbols });
            payload = rest;
        }
        Some(())
    }
}

impl<'a> Scan<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        let (mut frame, mut tables, mut restart_interval) = (None, Tables::default(), 0);
        loop {
            let marker;
            (marker, rest) = next_marker(rest)?;
            let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
            let payload = rest.get(2..length)?;
            rest = &rest[length..];
            match marker {
                // Baseline, and extended sequential.
                0xc0 | 0xc1 if frame.is_none() => frame = Some(Frame::read(payload)?),
                0xc4 => tables.read_codes(payload)?,
                0xdb => tables.read_divisors(payload)?,
                0xdd => restart_interval = usize::from(u16::from_be_bytes(payload.try_into().ok()?)),
                // Application segments and comments.
                0xe0..=0xef | 0xfe => {}
                0xda => return Self::start(&frame?, &tables, restart_interval, payload, rest),
                _ => return None,
            }
        }
    }

    fn start(
        frame: &Frame,
        tables: &Tables<'a>,
        restart_interval: usize,
        payload: &[u8],
        data: &'a [u8],
    ) -> Option<Self> {
        let (count, payload) = payload.split_first()?;
        let (selectors, rest) = payload.as_chunks::<2>();
        // Selectors, then the first and last coefficient; the last byte and a half are for progressive ones.
        let [selectors @ .., [0, 63]] = selectors else { return None };
        let expected =
            usize::from(*count) == frame.components.len() && selectors.len() == usize::from(*count);
        (rest == [0] && expected && matches!(count, 1 | 3)).then_some(())?;
        let mut components = Vec::with_capacity(3);
        for (i, ((id, factors, table), [selected, numbers])) in
            frame.components.iter().zip(selectors).enumerate()
        {
            let is_new = frame.components[..i].iter().all(|(other, ..)| other != id);
            (selected == id && is_new).then_some(())?;
            components.push(Component {
                // A scan of one component is a row of single blocks, whatever its factors say.
                blocks: if *count == 1 {
                    (1, 1)
                } else {
                    (usize::from(factors >> 4), usize::from(factors & 15))
                },
                coding: Coding {
                    divisors: (*tables.divisors.get(usize::from(*table))?)?,
                    dc: (*tables.dc.get(usize::from(numbers >> 4))?)?,
                    ac: (*tables.ac.get(usize::from(numbers & 15))?)?,
                },
            });
        }
        (frame.width > 0 && frame.height > 0).then_some(Self {
            width: frame.width,
            height: frame.height,
            components,
            restart_interval,
            data,
        })
    }
}

/// The marker that has to stand here, after any number of fill bytes, and what follows it.
pub(super) fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let filled = bytes.iter().take_while(|byte| **byte == 0xff).count();
    let (marker, rest) = bytes.get(filled..)?.split_first()?;
    (filled > 0 && *marker != 0).then_some((*marker, rest))
}
