//! Real pictures to show the functions with, and files that only say that they are pictures.

use std::path::{Path, PathBuf};

use bytes::Bytes;

/// The folder of the pictures that come with the source.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images")
}

/// A picture that comes with the source, by its file name.
///
/// # Errors
/// It cannot be read.
pub fn picture(name: &str) -> std::io::Result<Bytes> {
    Ok(std::fs::read(folder().join(name))?.into())
}

/// Something to upload.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The key.
    pub key: String,
    /// The content.
    pub bytes: Bytes,
    /// What the client says that it is.
    pub content_type: &'static str,
}

/// Pictures of every kind, under keys of every kind.
///
/// # Errors
/// One of them cannot be read.
pub fn samples() -> std::io::Result<Vec<Sample>> {
    [
        ("u/astronaut.png", "astronaut.png"),
        ("u/rocket.jpg", "rocket.jpg"),
        ("z/hubble.jpg", "hubble_deep_field.jpg"),
        ("p/chelsea.png", "chelsea.png"),
        ("c/coffee.png", "coffee.png"),
        ("u/coffee-pan.gif", "made/coffee-pan.gif"),
        ("u/round.png", "made/round-alpha.png"),
        ("c/inks.jpg", "made/cmyk-adobe.jpg"),
        ("u/turned.jpg", "made/orientation-6.jpg"),
        ("cat.png", "chelsea.png"),
    ]
    .into_iter()
    .map(|(key, file)| {
        Ok(Sample { key: key.to_owned(), bytes: picture(file)?, content_type: content_type(file) })
    })
    .collect()
}

/// Uploads that are no avatars, for every reason there is.
///
/// # Errors
/// A picture that they are made of cannot be read.
pub fn impostors() -> std::io::Result<Vec<Sample>> {
    let astronaut = picture("astronaut.png")?;
    let html = "<!doctype html><script>alert(document.domain)</script>";
    let svg = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    Ok([
        ("u/page.png", Bytes::from_static(html.as_bytes())),
        ("u/drawing.png", Bytes::from_static(svg.as_bytes())),
        ("u/paper.png", Bytes::from_static(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n")),
        ("u/half.png", astronaut.slice(..astronaut.len() / 2)),
        ("u/bomb.png", picture("made/bomb-50000.png")?),
        ("u/empty.png", Bytes::new()),
        ("u/2026/astronaut.png", astronaut.clone()),
        ("holiday/astronaut.png", astronaut),
    ]
    .into_iter()
    .map(|(key, bytes)| Sample { key: key.to_owned(), bytes, content_type: "image/png" })
    .collect())
}

/// The files of a folder, to be uploaded as users' pictures. Other folders in it are not looked into.
///
/// # Errors
/// The folder or one of its files cannot be read.
pub fn of_folder(folder: &Path) -> std::io::Result<Vec<Sample>> {
    let mut paths = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path| path.as_ref().map_or(true, |path: &PathBuf| path.is_file()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content_type = content_type(&name);
            Ok(Sample { key: format!("u/{name}"), bytes: std::fs::read(&path)?.into(), content_type })
        })
        .collect()
}

/// What a browser would say that a file of this name is.
fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        _ => "application/octet-stream",
    }
}
