//! What can be configured, and the recipe that follows from it.

use shared::env::{self, BUCKET_NAME, Environment};
use shared::object_ref::{ETag, ObjectRef};
use shared::ticket::KeyReference;

use crate::address::Kinds;
use crate::pipeline::{Animation, CropGravity, Fit, Gravity, Ground, Limits, PIPELINE_VERSION, Watermark};

/// The smallest and largest edge that can be asked for, in pixels.
const EDGES: std::ops::RangeInclusive<u32> = 16..=4096;

/// What becomes of the upload once its avatar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAfter {
    /// It stays; the bucket's life cycle ends it.
    Keep,
    /// It is deleted, if it is still the one that was read.
    Delete,
}

/// The picture that is laid over every avatar, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkConfig {
    /// Where it stands.
    pub object: ObjectRef,
    /// Where it is laid.
    pub gravity: Gravity,
    /// From 0 (invisible) to 1.
    pub opacity: f32,
    /// Its longer side as a part of the avatar's shorter one.
    pub scale: f32,
}

/// The configuration of this function (environment variables; see the README's table).
#[derive(Debug, Clone)]
pub struct Config {
    /// `AVATAR_BUCKET`.
    pub avatar_bucket: String,
    /// `AVATAR_KINDS`.
    pub kinds: Kinds,
    /// `AVATAR_EDGE`, pixels.
    pub edge: u32,
    /// `AVATAR_EXTRA_EDGES`, pixels, each once and none of them the main one.
    pub extra_edges: Vec<u32>,
    /// `AVATAR_FIT`.
    pub fit: Fit,
    /// `AVATAR_GRAVITY`.
    pub gravity: CropGravity,
    /// `AVATAR_GROUND`.
    pub ground: Option<Ground>,
    /// `AVATAR_QUALITY`, 1 to 100.
    pub quality: u8,
    /// `AVATAR_ANIMATION`.
    pub animation: Animation,
    /// `AVATAR_BASE_URL`, without a slash at its end.
    pub base_url: Option<String>,
    /// `WATERMARK_URI` and its companions.
    pub watermark: Option<WatermarkConfig>,
    /// `SOURCE_AFTER`.
    pub source_after: SourceAfter,
    /// `MAX_UPLOAD_BYTES`, `MAX_PIXELS`, `MAX_FRAMES`, and what this function's memory allows.
    pub limits: Limits,
    /// `ACCEPT_MULTIPART`.
    pub accept_multipart: bool,
    /// `TICKET_KEYS`.
    pub ticket_keys: Option<KeyReference>,
    /// `TICKET_REQUIRED`.
    pub ticket_required: bool,
}

impl Config {
    /// Reads the configuration, noting every mistake in `environment`.
    pub fn read(environment: &mut Environment) -> Self {
        let defaults = Limits::default();
        let avatar_bucket = environment.required("AVATAR_BUCKET", BUCKET_NAME, env::bucket_name);
        let upload_bucket = environment.optional("UPLOAD_BUCKET", BUCKET_NAME, env::bucket_name);
        if upload_bucket.is_some_and(|bucket| bucket == avatar_bucket) {
            environment.mistake(
                "UPLOAD_BUCKET",
                false,
                "another bucket than AVATAR_BUCKET, or every avatar would be transcoded again",
            );
        }
        let edge = environment.or("AVATAR_EDGE", 512, "a number of pixels from 16 to 4096", edge);
        let extra_edges = environment.or(
            "AVATAR_EXTRA_EDGES",
            Vec::new(),
            "up to 8 different numbers of pixels from 16 to 4096, separated by commas",
            extra_edges,
        );
        if environment.get("TICKET_REQUIRED") == Some("true") && environment.get("TICKET_KEYS").is_none() {
            environment.mistake(
                "TICKET_REQUIRED",
                false,
                "TICKET_KEYS beside it, or every upload would be rejected",
            );
        }
        if extra_edges.contains(&edge) {
            environment.mistake("AVATAR_EXTRA_EDGES", false, "edges other than AVATAR_EDGE");
        }
        Self {
            avatar_bucket,
            kinds: environment.or(
                "AVATAR_KINDS",
                Kinds::default(),
                "different kinds of 1 to 3 lower-case letters, separated by commas",
                Kinds::parse,
            ),
            edge,
            extra_edges,
            fit: environment.or("AVATAR_FIT", Fit::Cover, "cover or contain", |v| match v {
                "cover" => Some(Fit::Cover),
                "contain" => Some(Fit::Contain),
                _ => None,
            }),
            gravity: environment.or("AVATAR_GRAVITY", CropGravity::Centre, "centre or smart", |v| match v {
                "centre" => Some(CropGravity::Centre),
                "smart" => Some(CropGravity::Smart),
                _ => None,
            }),
            ground: environment.or("AVATAR_GROUND", None, "none, transparent or a colour as #rrggbb", |v| {
                if v == "none" { Some(None) } else { Ground::parse(v).map(Some) }
            }),
            quality: environment
                .or("AVATAR_QUALITY", 80, "a number from 1 to 100", |v| env::number(v, 1..=100)),
            animation: environment.or("AVATAR_ANIMATION", Animation::Keep, "keep or still", |v| match v {
                "keep" => Some(Animation::Keep),
                "still" => Some(Animation::Still),
                _ => None,
            }),
            base_url: environment.optional("AVATAR_BASE_URL", "a URL that starts with https://", base_url),
            watermark: watermark(environment),
            source_after: environment.or("SOURCE_AFTER", SourceAfter::Keep, "keep or delete", |v| match v {
                "keep" => Some(SourceAfter::Keep),
                "delete" => Some(SourceAfter::Delete),
                _ => None,
            }),
            limits: Limits {
                bytes: environment.or(
                    "MAX_UPLOAD_BYTES",
                    defaults.bytes,
                    "a number of bytes from 1 to 1073741824",
                    |v| env::number(v, 1..=1 << 30),
                ),
                pixels: environment.or(
                    "MAX_PIXELS",
                    defaults.pixels,
                    "a number of pixels, at least 1",
                    |v| env::number(v, 1..=1 << 32),
                ),
                frames: environment.or("MAX_FRAMES", defaults.frames, "a number from 1 to 10000", |v| {
                    env::number(v, 1..=10_000)
                }),
                memory_bytes: environment
                    .get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
                    .or_else(|| environment.get("FC_FUNCTION_MEMORY_SIZE"))
                    .and_then(|v| v.parse::<u64>().ok())
                    .map_or(defaults.memory_bytes, |mebibytes| mebibytes << 20),
                ..defaults
            },
            accept_multipart: environment.or("ACCEPT_MULTIPART", false, "true or false", env::boolean),
            ticket_keys: KeyReference::read(environment),
            ticket_required: environment.or("TICKET_REQUIRED", false, "true or false", env::boolean),
        }
    }

    /// The text that identifies what is made of an upload, stored with each rendition: two avatars of one
    /// upload are the same exactly if their recipes are. `watermark` is the tag of the watermark's object.
    pub fn recipe(&self, watermark: Option<&ETag>) -> String {
        let fit = match self.fit {
            Fit::Cover => "cover",
            Fit::Contain => "contain",
        };
        let animation = match self.animation {
            Animation::Keep => "keep",
            Animation::Still => "still",
        };
        let mut recipe = format!("{PIPELINE_VERSION};{};{fit};q{};{animation}", self.edge, self.quality);
        if self.gravity == CropGravity::Smart {
            recipe.push_str(";smart");
        }
        if let Some(ground) = self.ground {
            recipe.push_str(&format!(";{ground}"));
        }
        for edge in &self.extra_edges {
            recipe.push_str(&format!(";@{edge}"));
        }
        if let (Some(config), Some(tag)) = (&self.watermark, watermark) {
            let (gravity, opacity, scale) = (config.gravity.name(), config.opacity, config.scale);
            // The second way of laying it over: shrunk once to what the largest rendition needs, and from there on.
            recipe.push_str(&format!(";w2-{tag}-{gravity}-{opacity}-{scale}"));
        }
        recipe
    }
}

fn edge(value: &str) -> Option<u32> {
    env::number(value, EDGES)
}

fn extra_edges(list: &str) -> Option<Vec<u32>> {
    let mut edges: Vec<u32> = list.split(',').map(|value| edge(value.trim())).collect::<Option<_>>()?;
    let given = edges.len();
    edges.sort_unstable();
    edges.dedup();
    (edges.len() == given && given <= 8).then_some(edges)
}

fn base_url(value: &str) -> Option<String> {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"))?;
    let fits = !rest.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '?' || c == '#');
    fits.then(|| value.trim_end_matches('/').to_owned())
}

fn watermark(environment: &mut Environment) -> Option<WatermarkConfig> {
    let object = environment.optional("WATERMARK_URI", "s3://bucket/key", ObjectRef::parse_uri);
    let gravity = environment.or(
        "WATERMARK_GRAVITY",
        Gravity::default(),
        "centre, north, north-east, east, south-east, south, south-west, west or north-west",
        Gravity::parse,
    );
    let opacity =
        environment.or("WATERMARK_OPACITY", 1.0, "a number from 0 to 1", |v| env::number(v, 0.0..=1.0));
    let scale = environment
        .or("WATERMARK_SCALE", Watermark::SCALE, "a number from 0.01 to 1", |v| env::number(v, 0.01..=1.0));
    object.map(|object| WatermarkConfig { object, gravity, opacity, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, env::ConfigError> {
        let mut environment: Environment = variables.iter().copied().collect();
        let config = Config::read(&mut environment);
        environment.finish(config)
    }

    #[test]
    fn the_bucket_alone_is_enough() {
        let config = read(&[("AVATAR_BUCKET", "avatars")]).unwrap();
        assert_eq!(config.edge, 512);
        assert_eq!(config.quality, 80);
        assert_eq!(config.limits.bytes, 10 << 20);
        assert_eq!(config.limits.pixels, 50_000_000);
        assert_eq!(config.limits.frames, 200);
        assert_eq!(config.source_after, SourceAfter::Keep);
        assert!(!config.accept_multipart);
    }

    #[test]
    fn every_mistake_is_listed_with_its_variable() {
        let error = read(&[
            ("AVATAR_KINDS", "user"),
            ("AVATAR_EDGE", "9999"),
            ("AVATAR_EXTRA_EDGES", "64,64"),
            ("AVATAR_FIT", "fill"),
            ("AVATAR_GRAVITY", "face"),
            ("AVATAR_GROUND", "white"),
            ("AVATAR_BASE_URL", "cdn.example.com"),
            ("WATERMARK_OPACITY", "2"),
            ("WATERMARK_SCALE", "0"),
            ("SOURCE_AFTER", "burn"),
        ])
        .unwrap_err()
        .to_string();
        for variable in [
            "AVATAR_BUCKET",
            "AVATAR_KINDS",
            "AVATAR_EDGE",
            "AVATAR_EXTRA_EDGES",
            "AVATAR_FIT",
            "AVATAR_GRAVITY",
            "AVATAR_GROUND",
            "AVATAR_BASE_URL",
            "WATERMARK_OPACITY",
            "WATERMARK_SCALE",
            "SOURCE_AFTER",
        ] {
            assert!(error.contains(variable), "{variable} is missing in: {error}");
        }
    }

    #[test]
    fn source_and_destination_must_not_be_one_bucket() {
        let error = read(&[("AVATAR_BUCKET", "pictures"), ("UPLOAD_BUCKET", "pictures")]).unwrap_err();
        assert!(error.to_string().contains("UPLOAD_BUCKET"), "{error}");
    }

    #[test]
    fn a_recipe_changes_with_whatever_changes_the_picture() {
        let base = read(&[("AVATAR_BUCKET", "avatars")]).unwrap();
        for (variable, value) in [
            ("AVATAR_EDGE", "256"),
            ("AVATAR_EXTRA_EDGES", "64"),
            ("AVATAR_FIT", "contain"),
            ("AVATAR_GRAVITY", "smart"),
            ("AVATAR_GROUND", "transparent"),
            ("AVATAR_GROUND", "#ffffff"),
            ("AVATAR_QUALITY", "75"),
            ("AVATAR_ANIMATION", "still"),
        ] {
            let other = read(&[("AVATAR_BUCKET", "avatars"), (variable, value)]).unwrap();
            assert_ne!(base.recipe(None), other.recipe(None), "{variable}");
        }
        let watermark = [("AVATAR_BUCKET", "avatars"), ("WATERMARK_URI", "s3://config/mark.png")];
        let tag = ETag::parse("abc").unwrap();
        let marked = read(&watermark).unwrap().recipe(Some(&tag));
        assert_ne!(base.recipe(None), marked);
        for (variable, value) in
            [("WATERMARK_GRAVITY", "north"), ("WATERMARK_OPACITY", "0.5"), ("WATERMARK_SCALE", "0.5")]
        {
            let other = read(&[watermark[0], watermark[1], (variable, value)]).unwrap();
            assert_ne!(marked, other.recipe(Some(&tag)), "{variable}");
        }
        let kinds = read(&[("AVATAR_BUCKET", "avatars"), ("AVATAR_KINDS", "x")]).unwrap();
        assert_eq!(base.recipe(None), kinds.recipe(None));
    }
}
