//! The installation's secrets on disk: the authority, the server's certificate, the operators' token. Made at the
//! first start, mode 0600, never printed.

use anyhow::{Context, bail};
use kilter_core::ports::clock::Clock;
use kilter_door_mqtt::TlsIdentity;
use kilter_pipeline::authority::Authority;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Bytes of randomness in the operators' token.
const TOKEN_BYTES: usize = 32;

pub struct Identity {
    pub authority: Authority,
    pub tls: TlsIdentity,
    /// Bearer token for changes through the REST API.
    pub token: String,
}

impl Identity {
    /// Reads the data directory's identity, or makes what is missing of it.
    pub fn open(data_dir: &Path, server_names: &[String], clock: &dyn Clock) -> anyhow::Result<Self> {
        let dir = data_dir.join("identity");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let path = |name: &str| dir.join(name);
        let (authority, ca_pem) = authority(&path("ca.pem"), &path("ca.key"), clock)?;
        let (certificate, key) = (path("server.pem"), path("server.key"));
        if !key.exists() {
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            names.extend_from_slice(server_names);
            let issued = authority.issue_server(&names, clock.now())?;
            write_secret(&certificate, &issued.certificate_pem)?;
            write_secret(&key, &issued.private_key_pem)?;
        }
        let token_file = path("token");
        if !token_file.exists() {
            write_secret(&token_file, &random_token()?)?;
        }
        let tls = TlsIdentity { ca_pem, server_cert_pem: read(&certificate)?, server_key_pem: read(&key)? };
        Ok(Self { authority, tls, token: read(&token_file)?.trim().to_owned() })
    }
}

/// Authority and certificates of the data directory as they are now.
pub fn read_anew(data_dir: &Path) -> anyhow::Result<(Authority, TlsIdentity)> {
    let dir = data_dir.join("identity");
    let (authority, ca_pem) = load(&dir.join("ca.pem"), &dir.join("ca.key"))?;
    let (server_cert_pem, server_key_pem) = (read(&dir.join("server.pem"))?, read(&dir.join("server.key"))?);
    Ok((authority, TlsIdentity { ca_pem, server_cert_pem, server_key_pem }))
}

fn authority(certificate: &Path, key: &Path, clock: &dyn Clock) -> anyhow::Result<(Authority, String)> {
    if !key.exists() {
        if certificate.exists() {
            bail!(
                "{} is there but {} is not: restore the key from a backup; without it no certificate can be issued",
                certificate.display(),
                key.display()
            );
        }
        let (created, key_pem) = Authority::create("Kilter installation authority", clock.now())?;
        write_secret(certificate, &created.ca_pem())?;
        write_secret(key, &key_pem)?;
    }
    load(certificate, key)
}

fn load(certificate: &Path, key: &Path) -> anyhow::Result<(Authority, String)> {
    let ca_pem = read(certificate)?;
    let loaded =
        Authority::load(&ca_pem, &read(key)?).with_context(|| format!("{} cannot be used", certificate.display()))?;
    Ok((loaded, ca_pem))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0u8; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the operating system gave no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file that only its owner can read; whole or not at all.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}
