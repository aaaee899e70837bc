//! OSS's own signature, version 4.
//!
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4>

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::credentials::Keys;

/// In place of the body's digest, which OSS does not ask for.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const TERMINATOR: &str = "aliyun_v4_request";

/// `20231216T162057Z`
pub(super) fn date_time(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A query without the operation's name, by which the SDK marks its requests.
pub(super) fn without_operation(query: &str) -> String {
    let pairs: Vec<_> =
        query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("x-id=")).collect();
    pairs.join("&")
}

/// What is signed besides the headers.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Bucket and key, percent-encoded: `/bucket/a%20key`.
    pub(super) path: &'a str,
    /// As it is sent.
    pub(super) query: &'a str,
}

impl Signed<'_> {
    /// The header `Authorization`. `headers` are all of the request's; those that OSS demands are signed.
    pub(super) fn authorization<'h>(
        &self,
        keys: &Keys,
        region: &str,
        now: Timestamp,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
    ) -> String {
        let date_time = date_time(now);
        let date = date_time.split_once('T').map_or("", |(date, _)| date);
        let scope = format!("{date}/{region}/oss/{TERMINATOR}");
        let digest = hex::encode(Sha256::digest(self.canonical(headers)));
        let text = format!("{ALGORITHM}\n{date_time}\n{scope}\n{digest}");
        let first = format!("aliyun_v4{}", keys.secret).into_bytes();
        let key = [date, region, "oss", TERMINATOR].iter().fold(first, |key, part| keyed(&key, part));
        let signature = hex::encode(keyed(&key, &text));
        format!("{ALGORITHM} Credential={}/{scope},Signature={signature}", keys.id)
    }

    fn canonical<'h>(&self, headers: impl Iterator<Item = (&'h str, &'h str)>) -> String {
        let mut pairs: Vec<_> = self
            .query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        pairs.sort_unstable();
        let pairs: Vec<_> = pairs
            .into_iter()
            .map(|(name, value)| if value.is_empty() { name.to_owned() } else { format!("{name}={value}") })
            .collect();
        let is_signed =
            |name: &str| name.starts_with("x-oss-") || name == "content-type" || name == "content-md5";
        let mut lines: Vec<_> = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .filter(|(name, _)| is_signed(name))
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        lines.sort_unstable();
        // The empty line stands for headers that might be signed besides.
        format!(
            "{}\n{}\n{}\n{}\n\n{UNSIGNED}",
            self.method,
            self.path,
            pairs.join("&").replace('+', "%20"),
            lines.concat()
        )
    }
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of Alibaba's own SDKs (`TestV4AuthHeader` of alibabacloud-oss-go-sdk-v2 and others).
    #[test]
    fn the_signature_is_that_of_alibabas_own_sdks() {
        let now = Timestamp::from_second(1_702_743_657).unwrap();
        let keys = Keys { id: "ak".to_owned(), secret: "sk".to_owned(), token: None };
        let headers = [
            ("x-oss-head1", "value"),
            ("abc", "value"),
            ("ZAbc", "value"),
            ("XYZ", "value"),
            ("content-type", "text/plain"),
            ("x-oss-content-sha256", UNSIGNED),
            ("x-oss-date", "20231216T162057Z"),
        ];
        let signed = Signed {
            method: "PUT",
            path: "/bucket/1234%2B-/123/1.txt",
            query: "%2Bparam1=value3&%2Bparam2=&param1=value1&param2=&%7Cparam1=value4&%7Cparam2=",
        };
        assert_eq!(date_time(now), "20231216T162057Z");
        assert_eq!(
            signed.authorization(&keys, "cn-hangzhou", now, headers.into_iter()),
            "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,\
             Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
        );
    }

    #[test]
    fn the_operations_name_is_left_out() {
        assert_eq!(without_operation("x-id=GetObject&versionId=1"), "versionId=1");
        assert_eq!(without_operation("tagging"), "tagging");
        assert_eq!(without_operation(""), "");
    }
}
