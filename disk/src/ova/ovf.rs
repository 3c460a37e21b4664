//! The description of the machine, in OVF 1.

use crate::convert::Profile;

/// The machine that an OVA describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Firmware.
    pub firmware: Firmware,
    /// Operating system, for the importer.
    pub os: GuestOs,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            cpus: 2,
            memory_mib: 2048,
            firmware: Firmware::Bios,
            os: GuestOs::default(),
        }
    }
}

/// Firmware that the machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Efi,
}

/// Operating system as OVF names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestOs {
    /// Number of the CIM operating system type; 101 is a 64-bit Linux.
    pub cim_id: u32,
    /// VMware's name, such as `debian12_64Guest`.
    pub vmware: String,
    /// What people read.
    pub description: String,
}

impl Default for GuestOs {
    fn default() -> Self {
        Self {
            cim_id: 101,
            vmware: "otherLinux64Guest".to_owned(),
            description: "Linux (64-bit)".to_owned(),
        }
    }
}

pub(super) struct Description<'a> {
    pub(super) name: &'a str,
    pub(super) disk_file: &'a str,
    pub(super) disk_bytes: u64,
    pub(super) capacity: u64,
    pub(super) populated: u64,
    pub(super) profile: Profile,
    pub(super) hardware: &'a Hardware,
}

/// The XML.
pub(super) fn describe(d: &Description<'_>) -> String {
    let (version, network) = match d.profile {
        Profile::Aws => ("vmx-07", "E1000"),
        Profile::Vsphere => ("vmx-13", "VmxNet3"),
    };
    let firmware = match (d.profile, d.hardware.firmware) {
        (Profile::Vsphere, Firmware::Efi) => {
            "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n"
        }
        _ => "",
    };
    let Hardware {
        cpus,
        memory_mib,
        os,
        ..
    } = d.hardware;
    let (vmware, os_text) = (escape(&os.vmware), escape(&os.description));
    let Description {
        name,
        disk_file,
        disk_bytes,
        capacity,
        populated,
        ..
    } = d;
    let cim = os.cim_id;
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="{disk_file}" ovf:id="file1" ovf:size="{disk_bytes}"/>
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
    <Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="{populated}"/>
  </DiskSection>
  <NetworkSection>
    <Info>The list of logical networks</Info>
    <Network ovf:name="VM Network">
      <Description>The network of the virtual machine</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="{cim}" vmw:osType="{vmware}">
      <Info>The kind of installed guest operating system</Info>
      <Description>{os_text}</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>{version}</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:ElementName>{cpus} virtual CPU(s)</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>{cpus}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ElementName>{memory_mib}MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>{memory_mib}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:ElementName>SCSI controller 0</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>lsilogic</rasd:ResourceSubType>
        <rasd:ResourceType>6</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Hard disk 1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>7</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>VM Network</rasd:Connection>
        <rasd:ElementName>Network adapter 1</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>{network}</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
{firmware}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}

/// Text for an element or an attribute.
fn escape(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
