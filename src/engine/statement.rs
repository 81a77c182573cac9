//! The statement key (P-256): signs what leaves the proxy as a file. Apart from TLS and invoice
//! keys, made when it is first needed, kept wrapped in the books.

use super::Core;
use crate::{
    refusal::{Reason, Refusal, chain},
    registry::BackendKind,
    signer::{DeviceKey, WrappedKey},
};
use std::sync::Arc;

/// Key of the setting that holds it, wrapped.
const SETTING: &str = "statement_key";
/// What it is wrapped for; no device id has a blank.
const NAME: &str = "statement key";

impl Core {
    /// The statement key.
    ///
    /// # Errors
    /// When it does not open, or cannot be kept: one that is lost must sign nothing.
    pub async fn statement_key(&self) -> Result<Arc<DeviceKey>, Refusal> {
        self.statement.get_or_try_init(|| self.open_statement_key()).await.map(Arc::clone)
    }

    async fn open_statement_key(&self) -> Result<Arc<DeviceKey>, Refusal> {
        let failed = |error| Refusal::new(Reason::Internal, chain(&error));
        let kept = self.numbering.read(|books| books.setting(SETTING)).await?;
        let wrapped = match kept {
            Some(wrapped) => WrappedKey(wrapped),
            None => {
                let fresh = self.keys.generate(BackendKind::SoftwareP256, NAME);
                let (fresh, _) = fresh.map_err(failed)?;
                let value = fresh.0.clone();
                let keep = self.numbering.change(move |round| {
                    round.put_setting(SETTING, value);
                    Ok(())
                });
                keep.await?;
                fresh
            }
        };
        self.keys.unwrap(&wrapped, NAME).map(Arc::new).map_err(failed)
    }
}
