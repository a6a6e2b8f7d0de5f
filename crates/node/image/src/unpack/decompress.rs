//! Recognises how a stream is compressed by its first bytes. Media types are hints that registries get wrong.

use std::io::{BufRead, BufReader, Read};

use super::UnpackError;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// zstd's skippable frames, with which some writers begin.
const ZSTD_SKIPPABLE: std::ops::RangeInclusive<u8> = 0x50..=0x5f;
const UNSUPPORTED: [(&[u8], &str); 2] = [(b"BZh", "bzip2"), (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz")];
/// 128 MiB, what the zstd tools themselves accept by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const BUFFER_BYTES: usize = 64 * 1024;

/// The uncompressed form of `stream`.
pub(crate) fn decompress<'a>(stream: impl Read + 'a) -> Result<Box<dyn Read + 'a>, UnpackError> {
    let archive = |error: std::io::Error| UnpackError::Archive(Box::new(error));
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let start = stream.fill_buf().map_err(archive)?;
    if start.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(stream)));
    }
    let skippable =
        start.first().is_some_and(|b| ZSTD_SKIPPABLE.contains(b)) && start.get(1..4) == Some(b"\x2a\x4d\x18");
    if start.starts_with(ZSTD) || skippable {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(stream).map_err(archive)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(archive)?;
        return Ok(Box::new(decoder));
    }
    if let Some((_, name)) = UNSUPPORTED.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(UnpackError::Archive(
            format!("compression {name} is not supported").into(),
        ));
    }
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(stream: &[u8]) -> Result<Vec<u8>, String> {
        let mut data = Vec::new();
        let mut reader =
            decompress(stream).map_err(|e| std::error::Error::source(&e).unwrap().to_string())?;
        reader.read_to_end(&mut data).map_err(|e| e.to_string())?;
        Ok(data)
    }

    #[test]
    fn each_compression_is_recognised_without_being_told() {
        let text = b"some text, some text, some text".repeat(100);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        assert_eq!(read(&gzip.finish().unwrap()), Ok(text.clone()));
        assert_eq!(
            read(&zstd::stream::encode_all(&text[..], 1).unwrap()),
            Ok(text.clone())
        );
        assert_eq!(read(&text), Ok(text));
        assert_eq!(read(b""), Ok(vec![]));
    }

    #[test]
    fn other_compressions_and_cut_streams_are_named() {
        assert_eq!(
            read(b"BZh91AY"),
            Err("compression bzip2 is not supported".to_owned())
        );
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&[7; 1000]).unwrap();
        let whole = gzip.finish().unwrap();
        assert!(read(&whole[..whole.len() - 9]).is_err());
    }
}
