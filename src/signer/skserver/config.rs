//! Settings of a tax server's device, and the address that they name.

use crate::signer::CipherForm;
use std::{path::PathBuf, time::Duration};

/// Path of a tax server's service, where the address names none.
const PATH: &str = "/SKServer/SKDo";

/// How a device behind a tax server (税控服务器) is reached, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkServerConfig {
    /// Device id, as registered.
    pub device_id: String,
    /// `http://host:port` or `https://host:port`, with a path or `/SKServer/SKDo`.
    pub url: String,
    /// The CA of the server's certificate, PEM; must be given for `https`, unused for `http`.
    pub ca: Option<PathBuf>,
    /// Issuing terminal (开票终端标识): names taxpayer and device to the server, `taxpayer~~device`.
    pub kpzdbs: String,
    /// The device's taxpayer (纳税人识别号).
    pub taxpayer_id: String,
    /// Machine number (JQBH), 12 digits, as registered: it is part of the signed record.
    pub machine_number: String,
    /// How long one operation may take, all its calls together. Must be shorter than a caller
    /// waits.
    pub timeout: Duration,
    /// How long after sending the server may still be at work; "not issued" holds only after it.
    pub quiescence: Duration,
    /// What the device's cipher text (税控码 SKM) looks like.
    pub cipher_form: CipherForm,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    /// With a query, if any.
    pub(super) path: String,
    /// `Host` header.
    pub(super) authority: String,
    pub(super) scheme: Scheme,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Address {
    /// Reads an address; what is wrong with it otherwise.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("the address: {error}"))?;
        let (scheme, port) = match uri.scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            _ => return Err("the address must begin with http:// or https://".into()),
        };
        let authority = uri.authority().ok_or("the address names no host")?;
        if authority.as_str().contains('@') {
            return Err("the address must not hold a user or password".into());
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Ok(Self {
            // A literal IPv6 address stands in brackets, which only the header keeps.
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(port),
            path: if path == "/" { PATH.to_owned() } else { path.to_owned() },
            authority: authority.as_str().to_owned(),
            scheme,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_host_port_and_path() {
        for (url, scheme, host, port, path) in [
            ("http://10.0.0.1:8081", Scheme::Http, "10.0.0.1", 8081, PATH),
            ("http://sk.example/", Scheme::Http, "sk.example", 80, PATH),
            ("https://sk.example", Scheme::Https, "sk.example", 443, PATH),
            ("https://[::1]:8443/a/b?c=d", Scheme::Https, "::1", 8443, "/a/b?c=d"),
        ] {
            let address = Address::parse(url).unwrap();
            let found = (address.scheme, address.host.as_str(), address.port);
            assert_eq!((found, address.path.as_str()), ((scheme, host, port), path), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "sk.example:8081", "ftp://sk.example", "/SKServer", "http://u:p@sk.example"]
        {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
