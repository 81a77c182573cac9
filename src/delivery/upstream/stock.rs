//! The calls about number stock: confirming that a segment arrived (领用确认).

use super::{Upstream, UpstreamError, timed, within_deadline};
use crate::pb::authority::v1::ConfirmSegmentRequest;

impl Upstream {
    /// Confirms that a segment arrived; again changes nothing.
    ///
    /// # Errors
    /// As `submit_batch`; `Refused` for a request that handed nothing out, or whose segment was
    /// returned.
    pub async fn confirm_segment(&self, id: [u8; 16]) -> Result<(), UpstreamError> {
        let request = ConfirmSegmentRequest { request_id: id.to_vec() };
        let mut client = self.client.clone();
        within_deadline(client.confirm_segment(timed(request))).await.map(drop)
    }
}
