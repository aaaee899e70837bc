//! Progressive files, made by scripts of scans that no encoder would think of.

use proptest::prelude::*;

use super::{ALL, Dice, Made, NONE, Table, Writer, agree, fixture, luma, small};

/// One scan to write.
#[derive(Debug, Clone)]
struct Step {
    components: Vec<usize>,
    band: (usize, usize),
    /// Bits that earlier scans left; `None` for the first scan of the band.
    high: Option<u32>,
    low: u32,
}

/// The blocks of a component, those that fill up units included.
struct Component {
    blocks: (usize, usize),
    /// Blocks of the picture, and of a row with what fills it up.
    size: (usize, usize),
    stride: usize,
    coefficients: Vec<[i32; 64]>,
}

impl Component {
    fn of(made: &Made, dice: &mut Dice) -> Vec<Self> {
        let luma = made.luma.map_or((1, 1), |(h, v)| (usize::from(h), usize::from(v)));
        let factors = if made.luma.is_some() { vec![luma, (1, 1), (1, 1)] } else { vec![luma] };
        let (width, height) = (usize::from(made.width), usize::from(made.height));
        let units = (width.div_ceil(8 * luma.0), height.div_ceil(8 * luma.1));
        let component = |blocks: &(usize, usize)| {
            let stride = units.0 * blocks.0;
            let count = stride * units.1 * blocks.1;
            let size = ((width * blocks.0).div_ceil(8 * luma.0), (height * blocks.1).div_ceil(8 * luma.1));
            let coefficients = (0..count).map(|_| coefficients(made, dice)).collect();
            Self { blocks: *blocks, size, stride, coefficients }
        };
        factors.iter().map(component).collect()
    }
}

fn coefficients(made: &Made, dice: &mut Dice) -> [i32; 64] {
    let divisor = i32::from(made.divisor);
    let mut block = [0; 64];
    block[0] = dice.within((made.most / divisor).min(1000));
    for _ in 0..[0, 0, 3, 10, 40][usize::try_from(dice.below(5)).unwrap()] {
        let most = [1, 2, made.most / 20 / divisor][usize::try_from(dice.below(3)).unwrap()];
        block[1 + usize::try_from(dice.below(63)).unwrap()] = dice.within(most);
    }
    block
}

/// A complete script, in an order that is allowed.
fn script(count: usize, dice: &mut Dice) -> Vec<Step> {
    let mut queues: Vec<Vec<Step>> = Vec::new();
    let mut steps = Vec::new();
    let together = count == 1 || dice.below(2) == 0;
    let groups: Vec<Vec<usize>> =
        if together { vec![(0..count).collect()] } else { vec![vec![1, 2], vec![0]] };
    let low_at_first = u32::try_from(dice.below(3)).unwrap();
    for components in groups {
        steps.push(Step { components: components.clone(), band: (0, 0), high: None, low: low_at_first });
        let further = (0..low_at_first).rev();
        queues.push(
            further
                .map(|low| Step { components: components.clone(), band: (0, 0), high: Some(low + 1), low })
                .collect(),
        );
    }
    for component in 0..count {
        let mut first = 1;
        while first < 64 {
            let last = if dice.below(2) == 0 { 63 } else { first + usize::try_from(dice.below(64)).unwrap() };
            let (last, low) = (last.min(63), u32::try_from(dice.below(4)).unwrap());
            let step = |high, low| Step { components: vec![component], band: (first, last), high, low };
            let further = (0..low).rev().map(|low| step(Some(low + 1), low));
            queues.push([step(None, low)].into_iter().chain(further).collect());
            first = last + 1;
        }
    }
    while !queues.is_empty() {
        let queue = usize::try_from(dice.below(queues.len() as u64)).unwrap();
        if queues[queue].is_empty() {
            queues.swap_remove(queue);
        } else {
            steps.push(queues[queue].remove(0));
        }
    }
    steps
}

/// A scan of one band as it is being written.
struct Band<'a> {
    writer: &'a mut Writer,
    table: &'a Table,
    /// Blocks that end where their last coefficient stood, and the bits that belong to them.
    empty: u32,
    held: Vec<bool>,
}

impl Band<'_> {
    fn symbol(&mut self, symbol: u32) {
        let (code, length) = self.table.codes[symbol as usize];
        assert!(length > 0, "{symbol:x} has no code");
        self.writer.bits(code, length);
    }

    fn flush(&mut self) {
        if self.empty > 0 {
            let bits = self.empty.ilog2();
            self.symbol(bits << 4);
            self.writer.bits(self.empty - (1 << bits), bits);
            self.empty = 0;
        }
        for bit in std::mem::take(&mut self.held) {
            self.writer.bits(bit.into(), 1);
        }
    }

    fn first(&mut self, block: &[i32; 64], step: &Step) {
        let mut zeros = 0;
        for value in &block[step.band.0..=step.band.1] {
            let value = value.signum() * (value.abs() >> step.low);
            if value == 0 {
                zeros += 1;
                continue;
            }
            self.flush();
            while zeros > 15 {
                self.symbol(0xf0);
                zeros -= 16;
            }
            self.writer.coefficient(self.table, zeros, value);
            zeros = 0;
        }
        if zeros > 0 {
            self.empty += 1;
        }
    }

    fn further(&mut self, block: &[i32; 64], step: &Step) {
        let known = |value: &i32| value.abs() >> step.low;
        let last_new = (step.band.0..=step.band.1).rfind(|place| known(&block[*place]) == 1).unwrap_or(0);
        let (mut zeros, mut bits) = (0, Vec::new());
        for (place, coefficient) in block.iter().enumerate().take(step.band.1 + 1).skip(step.band.0) {
            let value = known(coefficient);
            if value == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 && place <= last_new {
                self.flush();
                self.symbol(0xf0);
                zeros -= 16;
                for bit in bits.drain(..) {
                    self.writer.bits(u32::from(bit), 1);
                }
            }
            if value > 1 {
                bits.push(value & 1 != 0);
                continue;
            }
            self.flush();
            self.symbol(zeros << 4 | 1);
            self.writer.bits(u32::from(*coefficient > 0), 1);
            for bit in bits.drain(..) {
                self.writer.bits(u32::from(bit), 1);
            }
            zeros = 0;
        }
        if zeros > 0 || !bits.is_empty() {
            self.empty += 1;
            self.held.append(&mut bits);
        }
    }
}

fn codes(dice: &mut Dice) -> (Table, Table) {
    let dc_counts = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
    let ac_counts = [0, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4, 4, 4, 8, 16, 197];
    (Table::new(dc_counts, (0..12).collect(), dice), Table::new(ac_counts, (0..=255).collect(), dice))
}

/// The file of `made` by `steps`.
fn jpeg(made: &Made, components: &[Component], steps: &[Step], dice: &mut Dice) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![0xff, 0xd8], ..Writer::default() };
    let [[h1, h0], [w1, w0]] = [made.height, made.width].map(u16::to_be_bytes);
    let mut frame = vec![8, h1, h0, w1, w0, u8::try_from(components.len()).unwrap()];
    for (id, component) in (1..).zip(components) {
        let divisors = [(); 64].map(|()| 1 + u8::try_from(dice.below(made.divisor.into())).unwrap());
        writer.segment(0xdb, &[&[id][..], &divisors].concat());
        let (h, v) = component.blocks;
        frame.extend([id, u8::try_from(h << 4 | v).unwrap(), id]);
    }
    writer.segment(0xc2, &frame);
    writer.segment(0xdd, &made.restart_interval.to_be_bytes());
    for step in steps {
        scan(&mut writer, made, components, step, dice);
    }
    writer.bytes.extend([0xff, 0xd9]);
    writer.bytes
}

fn scan(writer: &mut Writer, made: &Made, components: &[Component], step: &Step, dice: &mut Dice) {
    let (dc, ac) = codes(dice);
    let number = u8::try_from(dice.below(4)).unwrap();
    writer.segment(0xc4, &dc.segment(number));
    writer.segment(0xc4, &ac.segment(number | 0x10));
    let mut header = vec![u8::try_from(step.components.len()).unwrap()];
    for place in &step.components {
        header.extend([u8::try_from(place + 1).unwrap(), number << 4 | number]);
    }
    let (first, last) = step.band;
    let bits = step.high.unwrap_or(0) << 4 | step.low;
    header.extend([first, last].map(|place| u8::try_from(place).unwrap()));
    header.push(u8::try_from(bits).unwrap());
    writer.segment(0xda, &header);

    let alone = step.components.len() == 1;
    let component = &components[step.components[0]];
    let units = if alone {
        component.size
    } else {
        let rows = component.coefficients.len() / component.stride / component.blocks.1;
        (component.stride / component.blocks.0, rows)
    };
    let (mut before, mut restarts) = ([0; 3], 0);
    let mut band = Band { writer, table: &ac, empty: 0, held: Vec::new() };
    for unit in 0..units.0 * units.1 {
        if made.restart_interval > 0 && unit > 0 && unit % usize::from(made.restart_interval) == 0 {
            band.flush();
            band.writer.align();
            band.writer.bytes.extend([0xff, 0xd0 + restarts]);
            restarts = (restarts + 1) % 8;
            before = [0; 3];
        }
        let (column, row) = (unit % units.0, unit / units.0);
        for place in &step.components {
            let component = &components[*place];
            let (across, down) = if alone { (1, 1) } else { component.blocks };
            for y in 0..down {
                for x in 0..across {
                    let at = (row * down + y) * component.stride + column * across + x;
                    let block = &component.coefficients[at];
                    match (first, step.high) {
                        (0, None) => {
                            let mean = block[0] >> step.low;
                            band.writer.coefficient(&dc, 0, mean - before[*place]);
                            before[*place] = mean;
                        }
                        (0, Some(_)) => band.writer.bits((block[0] >> step.low & 1).cast_unsigned(), 1),
                        (_, None) => band.first(block, step),
                        (_, Some(_)) => band.further(block, step),
                    }
                }
            }
        }
    }
    band.flush();
    writer.align();
}

fn file(made: &Made) -> Vec<u8> {
    let mut dice = Dice(made.seed);
    let components = Component::of(made, &mut dice);
    let steps = script(components.len(), &mut dice);
    jpeg(made, &components, &steps, &mut dice)
}

fn made() -> impl Strategy<Value = Made> {
    (1_u16..100, 1_u16..100, luma(), 0_u16..9, 1_u8..20, any::<u64>()).prop_map(
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

proptest! {
    #[test]
    fn made_pictures_are_decoded_as_libjpeg_turbo_decodes_them(made in made()) {
        let is_tiny = made.width < 8 && made.height < 8;
        prop_assert_eq!(agree(&file(&made)), if is_tiny { &NONE[..] } else { &ALL });
    }

    #[test]
    fn samples_out_of_range_are_decoded_alike_or_left_to_libjpeg_turbo(made in made(), most in 800..20_000) {
        agree(&file(&Made { most: most * i32::from(made.divisor), ..made }));
    }

    #[test]
    fn damage_is_either_noticed_or_decoded_alike(
        made in made(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file(&made);
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
    fn damage_to_an_encoders_picture_is_either_noticed_or_decoded_alike(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = fixture("made/progressive.jpg");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agree(&bytes);
    }

    #[test]
    fn a_script_that_leaves_something_out_or_tells_it_twice_is_left_to_libjpeg_turbo(
        made in made(),
        which in any::<prop::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let made = Made { width: made.width.max(8), ..made };
        let mut dice = Dice(made.seed);
        let components = Component::of(&made, &mut dice);
        let mut steps = script(components.len(), &mut dice);
        let which = which.index(steps.len());
        let step = steps.remove(which);
        if twice {
            steps.insert(which, step.clone());
            steps.insert(which, step);
        }
        prop_assert_eq!(agree(&jpeg(&made, &components, &steps, &mut dice)), NONE);
    }
}

#[test]
fn an_encoders_picture_is_decoded_as_libjpeg_turbo_decodes_it() {
    assert_eq!(agree(&fixture("made/progressive.jpg")), ALL);
}

#[test]
fn a_cut_picture_is_left_to_libjpeg_turbo() {
    let bytes = file(&small());
    assert_eq!(agree(&bytes), ALL);
    for end in 0..bytes.len() {
        assert_eq!(agree(&bytes[..end]), NONE, "{end} of {}", bytes.len());
    }
}

#[test]
fn tables_that_change_between_scans_are_left_to_libjpeg_turbo() {
    let bytes = file(&small());
    let second = bytes.windows(2).enumerate().filter(|(_, pair)| pair == &[0xff, 0xda]).nth(1).unwrap().0;
    let mut writer = Writer::default();
    writer.segment(0xdb, &[&[1][..], &[9; 64]].concat());
    assert_eq!(agree(&[&bytes[..second], &writer.bytes, &bytes[second..]].concat()), NONE);
}
