//! The shapes of a CMS message (RFC 5652 §3, §5; PKCS#7's SignedData and GM/T 0010's are the same),
//! read as strict DER. Borrows everything and decides nothing: `ca` says what is believed.
//!
//! Invariant: whatever arrives is read or refused; every list has a bound.

use der::{
    AnyRef, Encode as _, Error, ErrorKind, Reader as _, Result, SliceReader, Tag, TagNumber,
    Tagged as _, asn1::ObjectIdentifier, asn1::OctetStringRef,
};

/// Most elements of one set: certificates, digests, signers, attributes, values. A message of one
/// signer has a chain and a handful of attributes.
const ELEMENTS_MAX: usize = 32;

/// The outermost shape: a type and a value.
pub(super) struct ContentInfo<'a> {
    /// What the content is.
    pub(super) content_type: ObjectIdentifier,
    /// The content itself.
    pub(super) content: AnyRef<'a>,
}

/// SignedData (RFC 5652 §5.1).
pub(super) struct SignedData<'a> {
    /// Algorithms that the signers' digests are made with.
    pub(super) digests: Vec<Algorithm<'a>>,
    /// eContentType.
    pub(super) content_type: ObjectIdentifier,
    /// eContent; `None` in a detached signature.
    pub(super) content: Option<&'a [u8]>,
    /// Certificates, each DER, in the message's order.
    pub(super) certificates: Vec<&'a [u8]>,
    /// SignerInfos, each DER.
    pub(super) signers: Vec<&'a [u8]>,
}

/// SignerInfo (RFC 5652 §5.3).
pub(super) struct SignerInfo<'a> {
    /// Which certificate is the signer's.
    pub(super) id: SignerId<'a>,
    /// Digest algorithm.
    pub(super) digest: Algorithm<'a>,
    /// Signed attributes, if there are any.
    pub(super) attributes: Option<SignedAttributes<'a>>,
    /// Signature algorithm.
    pub(super) algorithm: Algorithm<'a>,
    /// The signature.
    pub(super) signature: &'a [u8],
}

/// How a signer names its certificate.
pub(super) enum SignerId<'a> {
    /// By issuer (a Name, DER) and serial number (the bytes of an INTEGER).
    Serial {
        /// Issuer.
        issuer: &'a [u8],
        /// Serial number.
        serial: &'a [u8],
    },
    /// By the certificate's subjectKeyIdentifier.
    KeyId(&'a [u8]),
}

/// AlgorithmIdentifier.
pub(super) struct Algorithm<'a> {
    id: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

/// Signed attributes.
pub(super) struct SignedAttributes<'a> {
    /// What is signed: their DER as a SET (RFC 5652 §5.4).
    pub(super) signed: Vec<u8>,
    all: Vec<Attribute<'a>>,
}

struct Attribute<'a> {
    id: ObjectIdentifier,
    values: Vec<&'a [u8]>,
}

impl<'a> ContentInfo<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is not DER of this shape, or more than that.
    pub(super) fn read(der: &'a [u8]) -> Result<Self> {
        whole(der)?.sequence(|reader| {
            let content_type = reader.decode()?;
            let content = explicit(reader.decode()?)?;
            Ok(Self { content_type, content })
        })
    }
}

impl<'a> SignedData<'a> {
    /// Reads the content of a `ContentInfo`.
    ///
    /// # Errors
    /// When it is not DER of this shape.
    pub(super) fn read(content: AnyRef<'a>) -> Result<Self> {
        content.sequence(|reader| {
            version(reader.decode()?, &[1, 3])?;
            let digests = elements(set(reader.decode()?)?)?.into_iter();
            let digests = digests.map(|der| Algorithm::read(whole(der)?)).collect::<Result<_>>()?;
            let (content_type, content) = encapsulated(reader.decode()?)?;
            let certificates = tagged(reader, 0)?.map_or(Ok(Vec::new()), elements)?;
            // Revocation lists: whose certificate is good is for the registry to say.
            tagged(reader, 1)?;
            let signers = elements(set(reader.decode()?)?)?;
            Ok(Self { digests, content_type, content, certificates, signers })
        })
    }
}

impl<'a> SignerInfo<'a> {
    /// Reads one of `SignedData::signers`.
    ///
    /// # Errors
    /// When it is not DER of this shape, or its attributes are not in DER's order.
    pub(super) fn read(der: &'a [u8]) -> Result<Self> {
        whole(der)?.sequence(|reader| {
            let given: u8 = reader.decode()?;
            let id = SignerId::read(reader.decode()?)?;
            let expected = match id {
                SignerId::Serial { .. } => 1,
                SignerId::KeyId(_) => 3,
            };
            version(given, &[expected])?;
            let digest = Algorithm::read(reader.decode()?)?;
            let attributes = tagged(reader, 0)?.map(SignedAttributes::read).transpose()?;
            let algorithm = Algorithm::read(reader.decode()?)?;
            let signature = reader.decode::<&OctetStringRef>()?.as_bytes();
            // Unsigned attributes prove nothing.
            tagged(reader, 1)?;
            Ok(Self { id, digest, attributes, algorithm, signature })
        })
    }
}

impl<'a> SignerId<'a> {
    fn read(id: AnyRef<'a>) -> Result<Self> {
        let key_id = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };
        if id.tag() == key_id {
            return Ok(Self::KeyId(id.value()));
        }
        id.sequence(|reader| {
            let issuer = reader.tlv_bytes()?;
            let serial: AnyRef<'a> = reader.decode()?;
            serial.tag().assert_eq(Tag::Integer)?;
            Ok(Self::Serial { issuer, serial: serial.value() })
        })
    }
}

impl<'a> Algorithm<'a> {
    fn read(algorithm: AnyRef<'a>) -> Result<Self> {
        algorithm.sequence(|reader| {
            let id = reader.decode()?;
            let parameters =
                if reader.is_finished() { None } else { Some(reader.decode::<AnyRef<'a>>()?) };
            Ok(Self { id, parameters })
        })
    }

    /// Which algorithm it is; `None` when it has parameters other than NULL, as none of ours has.
    pub(super) fn plain(&self) -> Option<ObjectIdentifier> {
        self.parameters.is_none_or(AnyRef::is_null).then_some(self.id)
    }
}

impl<'a> SignedAttributes<'a> {
    fn read(attributes: AnyRef<'a>) -> Result<Self> {
        let ders = elements(attributes)?;
        // The signature is over the set in DER's order, whatever order it was sent in; only a set
        // that was sent in that order can mean but one thing.
        if !ders.is_sorted_by(|one, next| one < next) {
            return Err(ErrorKind::SetOrdering.into());
        }
        let all =
            ders.into_iter().map(|der| Attribute::read(whole(der)?)).collect::<Result<_>>()?;
        let signed = AnyRef::new(Tag::Set, attributes.value())?.to_der()?;
        Ok(Self { signed, all })
    }

    /// The value of an attribute that is there once and has one value; `None` otherwise.
    pub(super) fn only(&self, id: ObjectIdentifier) -> Option<&'a [u8]> {
        let mut named = self.all.iter().filter(|attribute| attribute.id == id);
        match (named.next().map(|attribute| attribute.values.as_slice()), named.next()) {
            (Some([value]), None) => Some(value),
            _ => None,
        }
    }
}

impl<'a> Attribute<'a> {
    fn read(attribute: AnyRef<'a>) -> Result<Self> {
        attribute.sequence(|reader| {
            let id = reader.decode()?;
            Ok(Self { id, values: elements(set(reader.decode()?)?)? })
        })
    }
}

/// eContentType and eContent (RFC 5652 §5.2).
fn encapsulated(content: AnyRef<'_>) -> Result<(ObjectIdentifier, Option<&[u8]>)> {
    content.sequence(|reader| {
        let content_type = reader.decode()?;
        let content = tagged(reader, 0)?.map(explicit).transpose()?;
        let bytes = content.map(|content| {
            content.tag().assert_eq(Tag::OctetString)?;
            Ok::<_, Error>(content.value())
        });
        Ok((content_type, bytes.transpose()?))
    })
}

/// The one value that `der` is.
fn whole(der: &[u8]) -> Result<AnyRef<'_>> {
    let mut reader = SliceReader::new(der)?;
    let value = reader.decode()?;
    reader.finish()?;
    Ok(value)
}

/// The one value within `[0] EXPLICIT`.
fn explicit(tagged: AnyRef<'_>) -> Result<AnyRef<'_>> {
    tagged.tag().assert_eq(context(0))?;
    whole(tagged.value())
}

/// An optional field with a constructed context tag.
fn tagged<'a>(reader: &mut SliceReader<'a>, number: u32) -> Result<Option<AnyRef<'a>>> {
    if reader.is_finished() || Tag::peek(reader)? != context(number) {
        return Ok(None);
    }
    reader.decode().map(Some)
}

fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

fn set(value: AnyRef<'_>) -> Result<AnyRef<'_>> {
    value.tag().assert_eq(Tag::Set)?;
    Ok(value)
}

/// The elements of a set, each DER.
fn elements(set: AnyRef<'_>) -> Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(set.value())?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        if found.len() >= ELEMENTS_MAX {
            return Err(ErrorKind::Overlength.into());
        }
        found.push(reader.tlv_bytes()?);
    }
    Ok(found)
}

fn version(given: u8, known: &[u8]) -> Result<()> {
    if known.contains(&given) { Ok(()) } else { Err(Tag::Integer.value_error().into()) }
}
