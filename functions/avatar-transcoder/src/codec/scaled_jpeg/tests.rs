//! Agreement with libjpeg-turbo: on pictures, on made ones that have what pictures rarely have, and on damage.

mod progressive;

use std::path::Path;

use proptest::prelude::*;

use super::{agree, planes};
use crate::codec::turbojpeg::Decoder;

const ALL: [u32; 2] = [1, 2];
const NONE: [u32; 0] = [];

fn fixture(name: &str) -> Vec<u8> {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images");
    std::fs::read(images.join(name)).unwrap()
}

#[test]
fn pictures_of_one_scan_are_decoded_as_libjpeg_turbo_decodes_them() {
    for name in [
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "made/gray.jpg",
        "made/restart.jpg",
        "made/orientation-6.jpg",
        "made/sampling-411.jpg",
        "made/sampling-420.jpg",
        "made/sampling-422.jpg",
        "made/sampling-440.jpg",
        "made/sampling-444.jpg",
    ] {
        assert_eq!(agree(&fixture(name)), ALL, "{name}");
    }
}

#[test]
fn tiny_pictures_are_left_to_libjpeg_turbo() {
    for (width, height, is_tiny) in [(7, 7, true), (1, 1, true), (8, 7, false), (1, 8, false)] {
        let made = Made { width, height, ..small() };
        assert_eq!(agree(&made.jpeg()), if is_tiny { &NONE[..] } else { &ALL }, "{width} × {height}");
    }
}

#[test]
fn larger_scales_are_left_to_libjpeg_turbo() {
    let bytes = fixture("rocket.jpg");
    let header = Decoder::new().unwrap().header(&bytes).unwrap();
    for eighths in [3, 4, 5, 6, 7, 8] {
        assert_eq!(planes(&bytes, &header, eighths), None, "{eighths}/8");
    }
}

#[test]
fn other_kinds_are_left_to_libjpeg_turbo() {
    for name in [
        "arithmetic",
        "arithmetic-progressive",
        "cmyk-adobe",
        "ycck-adobe",
        "sampling-311",
        "sampling-410",
        "sampling-441",
        "sampling-chroma-fine",
        "sampling-chroma-wide",
    ] {
        assert_eq!(agree(&fixture(&format!("made/{name}.jpg"))), NONE, "{name}");
    }
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn within(&mut self, most: i32) -> i32 {
        i32::try_from(self.below(2 * u64::from(most.unsigned_abs()) + 1)).unwrap() - most
    }

    fn shuffle(&mut self, symbols: &mut [u8]) {
        for i in 1..symbols.len() {
            symbols.swap(i, usize::try_from(self.below(i as u64 + 1)).unwrap());
        }
    }
}

/// A Huffman table, and the code and length of every symbol.
struct Table {
    counts: [u8; 16],
    symbols: Vec<u8>,
    codes: [(u32, u32); 256],
}

impl Table {
    fn new(counts: [u8; 16], mut symbols: Vec<u8>, dice: &mut Dice) -> Self {
        dice.shuffle(&mut symbols);
        let (mut codes, mut code, mut next) = ([(0, 0); 256], 0, symbols.iter());
        for (length, count) in (1..).zip(counts) {
            for symbol in next.by_ref().take(count.into()) {
                codes[usize::from(*symbol)] = (code, length);
                code += 1;
            }
            code <<= 1;
        }
        Self { counts, symbols, codes }
    }

    fn segment(&self, number: u8) -> Vec<u8> {
        [&[number][..], &self.counts, &self.symbols].concat()
    }
}

/// A made picture.
#[derive(Debug, Clone)]
struct Made {
    width: u16,
    height: u16,
    /// Sampling factors of luma; `None` for gray.
    luma: Option<(u8, u8)>,
    restart_interval: u16,
    /// The largest divisor.
    divisor: u8,
    /// The largest coefficient, once multiplied.
    most: i32,
    seed: u64,
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    window: u32,
    count: u32,
}

impl Writer {
    fn segment(&mut self, marker: u8, payload: &[u8]) {
        self.bytes.extend([0xff, marker]);
        self.bytes.extend(u16::try_from(payload.len() + 2).unwrap().to_be_bytes());
        self.bytes.extend(payload);
    }

    fn bits(&mut self, bits: u32, length: u32) {
        for i in (0..length).rev() {
            self.window = self.window << 1 | bits >> i & 1;
            self.count += 1;
            if self.count == 8 {
                let byte = u8::try_from(self.window & 255).unwrap();
                self.bytes.push(byte);
                if byte == 255 {
                    self.bytes.push(0);
                }
                self.count = 0;
            }
        }
    }

    fn align(&mut self) {
        while self.count > 0 {
            self.bits(1, 1);
        }
    }

    fn coefficient(&mut self, table: &Table, run: usize, value: i32) {
        let size = 32 - value.unsigned_abs().leading_zeros();
        let (code, length) = table.codes[run << 4 | size as usize];
        assert!(length > 0, "a run of {run} before {value} has no code");
        self.bits(code, length);
        let value = if value < 0 { value - 1 } else { value };
        self.bits(value.cast_unsigned() & ((1 << size) - 1), size);
    }

    fn block(&mut self, difference: i32, rest: &[i32], dc: &Table, ac: &Table) {
        self.coefficient(dc, 0, difference);
        let mut zeros = 0;
        for value in rest {
            if *value == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 {
                self.coefficient(ac, 15, 0);
                zeros -= 16;
            }
            self.coefficient(ac, zeros, *value);
            zeros = 0;
        }
        if zeros > 0 {
            self.coefficient(ac, 0, 0);
        }
    }
}

impl Made {
    /// The file, with every sample near what a picture may have if the largest coefficient is 800.
    fn jpeg(&self) -> Vec<u8> {
        let mut dice = Dice(self.seed);
        let dc_counts = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
        let ac_counts = [0, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4, 4, 4, 8, 16, 183];
        let sizes = (0..16_u8).flat_map(|run| (1..16).map(move |size| run << 4 | size));
        let ac_symbols: Vec<u8> = sizes.chain([0x00, 0xf0]).collect();
        let tables = [0, 1].map(|_| {
            (
                Table::new(dc_counts, (0..12).collect(), &mut dice),
                Table::new(ac_counts, ac_symbols.clone(), &mut dice),
            )
        });
        let divisors =
            [0, 1].map(|_| [(); 64].map(|()| 1 + u8::try_from(dice.below(self.divisor.into())).unwrap()));

        let mut writer = Writer { bytes: vec![0xff, 0xd8], ..Writer::default() };
        for number in [0, 1] {
            writer.segment(0xdb, &[&[number][..], &divisors[usize::from(number)]].concat());
            writer.segment(0xc4, &tables[usize::from(number)].0.segment(number));
            writer.segment(0xc4, &tables[usize::from(number)].1.segment(number | 0x10));
        }
        let (across, down) = self.luma.unwrap_or((1, 1));
        let mut components = vec![(1, across, down, 0)];
        if self.luma.is_some() {
            components.extend([(2, 1, 1, 1), (3, 1, 1, 1)]);
        }
        let count = u8::try_from(components.len()).unwrap();
        let [[h1, h0], [w1, w0]] = [self.height, self.width].map(u16::to_be_bytes);
        let mut frame = vec![8, h1, h0, w1, w0, count];
        let mut scan = vec![count];
        for (id, across, down, tables) in &components {
            frame.extend([*id, across << 4 | down, *tables]);
            scan.extend([*id, tables << 4 | tables]);
        }
        scan.extend([0, 63, 0]);
        writer.segment(0xc0, &frame);
        writer.segment(0xdd, &self.restart_interval.to_be_bytes());
        writer.segment(0xda, &scan);

        let units = u32::from(self.width).div_ceil(8 * u32::from(across))
            * u32::from(self.height).div_ceil(8 * u32::from(down));
        let mut before = [0; 3];
        let mut restarts = 0;
        for unit in 0..units {
            if self.restart_interval > 0 && unit > 0 && unit % u32::from(self.restart_interval) == 0 {
                writer.align();
                writer.bytes.extend([0xff, 0xd0 + restarts]);
                restarts = (restarts + 1) % 8;
                before = [0; 3];
            }
            for ((_, across, down, number), before) in components.iter().zip(&mut before) {
                let (dc, ac) = &tables[usize::from(*number)];
                for _ in 0..across * down {
                    let divisor = i32::from(self.divisor);
                    let mean = dice.within((self.most / divisor).min(1000));
                    let mut rest = [0; 63];
                    for _ in 0..dice.below(10) {
                        rest[usize::try_from(dice.below(63)).unwrap()] =
                            dice.within(self.most / 20 / divisor);
                    }
                    // Some blocks have no code for their end, and some have a large coefficient.
                    if dice.below(3) == 0 {
                        rest[62] = dice.within(self.most / 20 / divisor);
                    }
                    if dice.below(5) == 0 {
                        rest[usize::try_from(dice.below(63)).unwrap()] = dice.within(self.most / divisor);
                    }
                    writer.block(mean - *before, &rest, dc, ac);
                    *before = mean;
                }
            }
        }
        writer.align();
        writer.bytes.extend([0xff, 0xd9]);
        writer.bytes
    }
}

/// Sampling factors of luma.
fn luma() -> impl Strategy<Value = Option<(u8, u8)>> {
    prop::sample::select(vec![None, Some((1, 1)), Some((2, 1)), Some((2, 2)), Some((1, 2)), Some((4, 1))])
}

fn made() -> impl Strategy<Value = Made> {
    (1_u16..150, 1_u16..150, luma(), 0_u16..5, 1_u8..20, any::<u64>()).prop_map(
        |(width, height, luma, restart_interval, divisor, seed)| Made {
            width,
            height,
            luma,
            restart_interval,
            divisor,
            most: 800,
            seed,
        },
    )
}

const FIXTURES: [&str; 9] = [
    "made/restart.jpg",
    "made/sampling-420.jpg",
    "made/sampling-422.jpg",
    "made/sampling-440.jpg",
    "made/sampling-444.jpg",
    "made/gray.jpg",
    "made/sampling-411.jpg",
    "made/orientation-3.jpg",
    "rocket.jpg",
];

proptest! {
    #[test]
    fn made_pictures_are_decoded_as_libjpeg_turbo_decodes_them(made in made()) {
        let is_tiny = made.width < 8 && made.height < 8;
        prop_assert_eq!(agree(&made.jpeg()), if is_tiny { &NONE[..] } else { &ALL });
    }

    #[test]
    fn samples_out_of_range_are_decoded_alike_or_left_to_libjpeg_turbo(made in made()) {
        agree(&Made { most: 32767 * i32::from(made.divisor), ..made }.jpeg());
    }

    #[test]
    fn whatever_is_answered_of_a_damaged_picture_is_what_libjpeg_turbo_answers(
        name in prop::sample::select(FIXTURES.as_slice()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = fixture(name);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        agree(&bytes);
    }

    #[test]
    fn damage_to_the_codes_of_a_made_picture_is_either_noticed_or_decoded_alike(
        made in made(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = made.jpeg();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agree(&bytes);
    }
}

fn small() -> Made {
    Made { width: 40, height: 40, luma: Some((2, 2)), restart_interval: 2, divisor: 4, most: 800, seed: 7 }
}

#[test]
fn a_cut_picture_is_left_to_libjpeg_turbo() {
    let bytes = small().jpeg();
    assert_eq!(agree(&bytes), ALL);
    for end in 0..bytes.len() {
        assert_eq!(agree(&bytes[..end]), NONE, "{end} of {}", bytes.len());
    }
}

#[test]
fn a_picture_whose_scan_is_followed_by_anything_but_the_end_is_left_to_libjpeg_turbo() {
    let mut bytes = small().jpeg();
    let end = bytes.len() - 2;
    for between in [&[0][..], &[0xff, 0xd3], &[0xff, 0xfe, 0, 2], &[0xff, 0x00]] {
        let longer = [&bytes[..end], between, &bytes[end..]].concat();
        assert_eq!(agree(&longer), NONE, "{between:x?}");
    }
    bytes.splice(end..end, [0xff, 0xff]);
    assert_eq!(agree(&bytes), ALL, "fill bytes may stand before a marker");
}

#[test]
fn whatever_follows_the_end_is_not_looked_at() {
    for junk in [&[0; 40][..], &[0xff], &[0xff, 0xd8, 0xff, 0xe1, 0, 4], b"GIF89a"] {
        assert_eq!(agree(&[&small().jpeg(), junk].concat()), ALL, "{junk:x?}");
    }
}

#[test]
fn segments_before_the_picture_are_passed_over() {
    let bytes = small().jpeg();
    let icc = [b"ICC_PROFILE\0\x01\x01", &[0xff; 300][..]].concat();
    let segments: [(u8, &[u8]); 4] = [(0xe1, b"Exif\0\0MM"), (0xe2, &icc), (0xfe, b"\xff\xd9"), (0xe0, b"")];
    for (marker, payload) in segments {
        let mut writer = Writer { bytes: vec![0xff, 0xd8], ..Writer::default() };
        writer.segment(marker, payload);
        assert_eq!(agree(&[&writer.bytes, &bytes[2..]].concat()), ALL, "{marker:x}");
    }
}

#[test]
fn restart_markers_out_of_order_are_left_to_libjpeg_turbo() {
    let mut bytes = small().jpeg();
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xd0]).unwrap();
    bytes[at + 1] = 0xd1;
    assert_eq!(agree(&bytes), NONE);
}
