//! How everything of the metadata log is encoded: its records on the disk, its snapshots, and raft's messages.
//!
//! A version, then MessagePack with the names of all fields. A reader passes over fields that it does not know, and
//! gives those that are missing their defaults; so a field may be added at any time. What an older reader must not pass
//! over (a new command, a field that changes what is decided) is written only when the cluster's metadata version
//! allows it (see `chronik_core::cluster::MetadataVersion`). What is not understood all the same is an error, and
//! changes nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte; MessagePack itself never uses it.
const MARK: u8 = 0xc1;
/// The version of the encoding as such. It grows when bytes mean something else, not when there is a new field.
const VERSION: u8 = 1;

/// Why bytes cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin as the encoding does.
    #[error("these bytes are not in a format that this version of Chronik knows")]
    Foreign,
    /// The encoding is newer.
    #[error("encoded in format {0}, while this version of Chronik knows format {VERSION}: start the newer version")]
    Newer(u8),
    /// They begin rightly, and what follows is not understood: a newer command, or damage.
    #[error("not understood; was it written by a newer version of Chronik? ({0})")]
    Unknown(#[from] rmp_serde::decode::Error),
}

/// The bytes of a value.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = vec![MARK, VERSION];
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())?;
    Ok(bytes)
}

/// The value of bytes that [`encode`] made, in this version or a neighbouring one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes {
        [MARK, VERSION, body @ ..] => Ok(rmp_serde::from_slice(body)?),
        [MARK, newer, ..] => Err(DecodeError::Newer(*newer)),
        _ => Err(DecodeError::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::cluster::{Image, MetadataCommand};
    use chronik_core::ids::{BrokerEpoch, BrokerId};
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        id: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        #[serde(default)]
        tags: Vec<String>,
        id: u32,
    }

    #[test]
    fn a_field_may_be_added_and_is_passed_over_by_who_does_not_know_it() {
        let new = New { tags: vec!["a".into()], id: 7 };
        assert_eq!(decode::<Old>(&encode(&new).unwrap()).unwrap(), Old { id: 7 });
        assert_eq!(decode::<New>(&encode(&Old { id: 7 }).unwrap()).unwrap(), New { tags: Vec::new(), id: 7 });
    }

    #[test]
    fn what_is_newer_or_foreign_is_said_to_be_so() {
        #[derive(Serialize)]
        enum Newer {
            Abolish { id: u32 },
        }
        let bytes = encode(&Newer::Abolish { id: 1 }).unwrap();
        let error = decode::<MetadataCommand>(&bytes).unwrap_err();
        assert!(error.to_string().contains("newer version"), "{error}");
        let mut bytes = encode(&Old { id: 1 }).unwrap();
        bytes[1] = 9;
        assert!(matches!(decode::<Old>(&bytes), Err(DecodeError::Newer(9))));
        assert!(matches!(decode::<Old>(&[0, 1, 2]), Err(DecodeError::Foreign)));
        assert!(matches!(decode::<Old>(&[]), Err(DecodeError::Foreign)));
    }

    #[test]
    fn commands_and_images_come_back_as_they_were() {
        let fence = MetadataCommand::Fence { id: BrokerId(2), epoch: BrokerEpoch(1 << 40) };
        assert_eq!(decode::<MetadataCommand>(&encode(&fence).unwrap()).unwrap(), fence);
        let image = Image::default();
        assert_eq!(decode::<Image>(&encode(&image).unwrap()).unwrap(), image);
    }
}
