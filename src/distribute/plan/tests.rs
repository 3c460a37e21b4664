use std::collections::BTreeMap;

use super::*;
use crate::documents::Body;
use crate::documents::load_text;

/// An image of which the manifest alone exists.
pub(in crate::distribute) fn source(folder: &Utf8Path) -> Source {
    let manifest = serde_json::json!({
        "manifestVersion": 1, "name": "Web Server", "version": "1.2.3", "build": 4,
        "arn": "arn:local:imagebuilder:local:self:image/web-server/1.2.3/4", "run": "run-1",
        "created": "2026-07-28T01:14:17.416Z", "generator": "test", "architecture": "x86_64",
        "firmware": ["bios", "uefi"], "parent": {"name": "p", "version": "1", "sha256": ""},
        "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
        "packages": [], "sanitised": [], "virtualSize": (1_u64 << 30) + 512, "diskDigest": "d", "boots": [],
        "files": [
            {"path": "web.raw", "format": "raw", "size": 3_145_728, "sha256": "0"},
            {"path": "web.vmdk", "format": "vmdk", "size": 5, "sha256": "0"},
        ],
    });
    Source {
        folder: folder.to_owned(),
        manifest: serde_json::from_value(manifest).unwrap(),
    }
}

fn plan(text: &str) -> Result<Plan> {
    let text = format!("kind: DistributionConfiguration\nname: dist\n{text}");
    let (documents, problems) = load_text("dist.yaml".into(), &text, &BTreeMap::new());
    let Some(Body::DistributionConfiguration(configuration)) =
        documents.first().map(|document| &document.body)
    else {
        panic!("{problems:?}");
    };
    Plan::new(configuration, "/base".into(), &source("/image".into()))
}

#[test]
fn names_come_from_the_image_and_not_from_the_clock() {
    let plan = plan(
        "distributions:\n- region: eu-west-1\n  amiDistributionConfiguration:\n    \
         name: 'web {{ imagebuilder:buildDate }}'\n    amiTags: {v: '{{imagebuilder:buildVersion}}'}\n    \
         launchPermission: {userIds: ['111122223333'], userGroups: [all]}\n- region: us-east-1\n",
    )
    .unwrap();
    let Delivery::Ami(ami) = &plan.deliveries[0] else {
        panic!("{plan:?}")
    };
    let first = &ami.regions[0];
    assert_eq!(first.register.name, "web 2026-07-28T01-14-17.416Z");
    assert_eq!(first.tags["v"], "1.2.3/4");
    assert_eq!(first.register.boot_mode, "uefi-preferred");
    assert_eq!(
        first.register.block_device_mappings[0].ebs.volume_size, 2,
        "whole GiB"
    );
    assert_eq!(
        first.launch_permission,
        [
            (
                "LaunchPermission.Add.1.UserId".to_owned(),
                "111122223333".to_owned()
            ),
            ("LaunchPermission.Add.2.Group".into(), "all".into()),
        ]
    );
    assert_eq!(
        first.volume_permission.len(),
        1,
        "a group can't make volumes"
    );
    assert_eq!(
        ami.regions[1].register.name,
        "web-server 2026-07-28T01-14-17.416Z"
    );
    let parameters = first.register.parameters("snap-1");
    assert!(parameters.contains(&(
        "BlockDeviceMapping.1.Ebs.SnapshotId".into(),
        "snap-1".into()
    )));
    for (key, value) in [("VirtualizationType", "hvm"), ("ImdsSupport", "v2.0")] {
        assert!(parameters.contains(&(key.into(), value.into())), "{key}");
    }
    assert!(
        !parameters.iter().any(|(key, _)| key == "TpmSupport"),
        "an image that boots by BIOS too has none"
    );
}

#[test]
fn an_image_for_uefi_alone_has_a_tpm_and_its_variables() {
    let folder = tempfile::tempdir().unwrap();
    let base = Utf8Path::from_path(folder.path()).unwrap();
    std::fs::write(base.join("keys.b64"), "QU1a\nVUVGSQ==\n").unwrap();
    std::fs::write(base.join("keys.bin"), [0, 159]).unwrap();
    let mut source = source("/image".into());
    source.manifest.firmware = vec![crate::machine::Firmware::Uefi];
    let registered = |amis: serde_json::Value| {
        let wanted = serde_json::from_value(amis).unwrap();
        RegisterImage::new(&source, "web".into(), String::new(), &wanted, base)
    };
    let usual = registered(serde_json::json!({"uefiData": "keys.b64"})).unwrap();
    assert_eq!(usual.tpm_support.as_deref(), Some("v2.0"));
    assert_eq!(usual.uefi_data.as_deref(), Some("QU1aVUVGSQ=="));
    let plain =
        registered(serde_json::json!({"tpmSupport": "none", "imdsSupport": "optional"})).unwrap();
    assert_eq!((plain.tpm_support, plain.imds_support), (None, None));
    assert!(registered(serde_json::json!({"uefiData": "keys.bin"})).is_err());
}

#[test]
fn what_cannot_be_done_is_not_passed_over() {
    for (text, what) in [
        (
            "local: {destinations: [{folder: {path: out, formats: [ova]}}]}\n",
            "wants ova",
        ),
        (
            "distributions:\n- region: eu-west-1\n  launchTemplateConfigurations:\n  \
             - {launchTemplateId: lt-0123456789abcdef0, accountId: '111122223333'}\n  \
             - {launchTemplateId: lt-0123456789abcdef0, accountId: '444455556666'}\n",
            "a copy goes to neither",
        ),
        (
            "distributions:\n- region: eu-west-1\nlocal: {amis: {tpmSupport: v2.0}}\n",
            "registered as uefi-preferred",
        ),
        (
            "distributions:\n- region: eu-west-1\nlocal: {amis: {uefiData: missing.b64}}\n",
            "cannot read /base/missing.b64",
        ),
        (
            "distributions:\n- region: eu-west-1\n  fastLaunchConfigurations: [{enabled: true}, {enabled: false}]\n",
            "two fast launch configurations",
        ),
    ] {
        let failure = plan(text).unwrap_err();
        assert!(failure.to_string().contains(what), "{failure}");
    }
}

#[test]
fn a_versioned_folder_is_the_images_own() {
    let plan = plan(
        "local: {destinations: [{name: usb, folder: {path: out, layout: versioned, latest: true, formats: [raw]}}]}\n",
    )
    .unwrap();
    let Delivery::Folder(folder) = &plan.deliveries[0] else {
        panic!("{plan:?}")
    };
    assert_eq!(folder.folder, "/base/out/web-server/1.2.3/4");
    assert_eq!(
        folder.latest.as_deref(),
        Some("/base/out/web-server/latest".into())
    );
    assert_eq!(folder.files, ["web.raw"]);
}

#[test]
fn a_dry_run_shows_every_call() {
    let plan = plan(
        "distributions:\n- region: eu-west-1\n  amiDistributionConfiguration: {kmsKeyId: alias/images}\n  \
         launchTemplateConfigurations: [{launchTemplateId: lt-0123456789abcdef0}]\n  \
         fastLaunchConfigurations: [{enabled: true, maxParallelLaunches: 6}]\n- region: us-east-1\n\
         local: {destinations: [{name: store, s3: {bucket: images, prefix: p, formats: [raw]}}]}\n",
    )
    .unwrap();
    let calls = crate::distribute::calls::of_plan(&plan, &source("/image".into()));
    let names: Vec<String> = calls
        .iter()
        .map(|call| format!("{} {} {}", call.destination, call.service, call.action))
        .collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    store s3 PutObject
    store s3 PutObject
    store s3 PutObject
    eu-west-1 ebs StartSnapshot
    eu-west-1 ebs PutSnapshotBlock
    eu-west-1 ebs CompleteSnapshot
    eu-west-1 ec2 DescribeSnapshots
    eu-west-1 ec2 RegisterImage
    eu-west-1 ec2 DescribeImages
    eu-west-1 ec2 EnableFastLaunch
    eu-west-1 ec2 CreateLaunchTemplateVersion
    eu-west-1 ec2 ModifyLaunchTemplate
    us-east-1 ec2 CopyImage
    us-east-1 ec2 DescribeImages
    ");
    let start = &calls[3].parameters;
    assert!(start.contains(&("KmsKeyArn".into(), "alias/images".into())));
    assert!(start.contains(&("VolumeSize".into(), "2".into())));
    assert_eq!(calls[0].parameters[1].1, "p/web-server/1.2.3/4/web.raw");
}

#[test]
fn a_key_of_another_region_is_refused() {
    let failure = plan(
        "distributions:\n- region: eu-west-1\n  amiDistributionConfiguration:\n    \
         kmsKeyId: arn:aws:kms:us-east-1:111122223333:key/0a1b2c3d-0000-0000-0000-000000000000\n",
    )
    .unwrap_err();
    insta::assert_snapshot!(
        failure,
        @"kmsKeyId arn:aws:kms:us-east-1:111122223333:key/0a1b2c3d-0000-0000-0000-000000000000 is not a key of the region eu-west-1"
    );
}

#[test]
fn accounts_get_what_is_theirs() {
    let plan = plan(
        "distributions:\n- region: eu-west-1\n  amiDistributionConfiguration:\n    targetAccountIds: ['111122223333']\n    \
         launchPermission: {userIds: ['999988887777']}\n  \
         launchTemplateConfigurations: [{launchTemplateId: lt-00000000000000000}, {launchTemplateId: lt-11111111111111111, accountId: '111122223333'}]\n  \
         ssmParameterConfigurations: [{parameterName: /theirs, amiAccountId: '111122223333'}]\n",
    )
    .unwrap();
    let [delivery @ Delivery::Ami(ami)] = plan.deliveries.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        delivery.destinations(),
        ["eu-west-1", "111122223333@eu-west-1"]
    );
    let (own, theirs) = (&ami.regions[0], &ami.regions[0].accounts[0]);
    assert_eq!(
        own.launch_templates,
        [("lt-00000000000000000".into(), true)]
    );
    assert_eq!(
        theirs.launch_templates,
        [("lt-11111111111111111".into(), true)]
    );
    assert!(own.parameters.is_empty() && own.own_accounts.is_empty());
    assert_eq!(theirs.parameters[0].0, "/theirs");
    assert_eq!(
        (own.volume_permission.len(), theirs.volume_permission.len()),
        (1, 0)
    );
    assert!(own.permits("999988887777") && !own.permits("111122223333"));
    let calls = crate::distribute::calls::of_plan(&plan, &source("/image".into()));
    let assumed = calls
        .iter()
        .find(|call| call.action == "AssumeRole")
        .unwrap();
    assert_eq!(
        assumed.parameters[0].1,
        "arn:aws:iam::111122223333:role/EC2ImageBuilderDistributionCrossAccountRole"
    );
}

#[test]
fn an_import_takes_the_smallest_file() {
    let import = |road: &str| {
        let plan = plan(&format!(
            "distributions: [{{region: eu-west-1}}]\nlocal: {{amis: {{road: {road}, bucket: imports, prefix: disks}}}}\n"
        ))?;
        let Delivery::Ami(ami) = &plan.deliveries[0] else {
            panic!("{plan:?}")
        };
        Ok::<_, Failure>(ami.road.import().cloned())
    };
    let plan = import("importSnapshot").unwrap().unwrap();
    assert_eq!(
        (plan.file.as_str(), plan.format.as_str()),
        ("web.vmdk", "VMDK")
    );
    assert_eq!(plan.upload.prefix, "disks/web-server/1.2.3/4/");
    assert_eq!(plan.upload.region.as_deref(), Some("eu-west-1"));
    assert_eq!((plan.role.as_str(), plan.keep), ("vmimport", false));
    assert_eq!(
        import("importImage").unwrap().unwrap().boot_mode,
        "legacy-bios"
    );
    assert_eq!(import("ebsDirect").unwrap(), None);
}
