//! Verifies the signatures of an image in a registry with the Sigstore project's own library:
//!
//!     sigstore-verify PUBLIC-KEY IMAGE
//!
//! The registry is spoken to without TLS. Ends with 1 if no signature of that key is there.

use std::error::Error;
use std::process::ExitCode;

use sigstore::cosign::verification_constraint::{PublicKeyVerifier, VerificationConstraintVec};
use sigstore::cosign::{ClientBuilder, CosignCapabilities as _, verify_constraints};
use sigstore::registry::{Auth, ClientConfig, ClientProtocol, OciReference};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(key), Some(image)) = (words.next(), words.next()) else {
        return Err("usage: sigstore-verify PUBLIC-KEY IMAGE".into());
    };
    let key = PublicKeyVerifier::try_from(&std::fs::read(key)?[..])?;
    let image: OciReference = image.parse()?;
    let plain = ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    };
    let mut client = ClientBuilder::default()
        .with_oci_client_config(plain)
        .build()?;
    // Only signatures whose payload names this very image are given.
    let signatures = client
        .trusted_signature_layers(&Auth::Anonymous, &image)
        .await?;
    let wanted: VerificationConstraintVec = vec![Box::new(key)];
    Ok(match verify_constraints(&signatures, wanted.iter()) {
        Ok(()) => {
            println!("verified");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("not verified: {:?}", error.unsatisfied_constraints);
            ExitCode::FAILURE
        }
    })
}
