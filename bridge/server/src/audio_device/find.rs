//! Finds devices by name, and lists them. Opens none.

use cpal::traits::{DeviceTrait as _, HostTrait as _};

use super::{DeviceError, Direction};

/// A device there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The system's name for it, which no other device has.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Whether the system would use it if none is named.
    pub default: bool,
}

/// All devices of one kind; where the system cannot tell before it opens one, some are listed that are not.
///
/// # Errors
/// If the system's sound cannot be reached.
pub fn list(direction: Direction) -> Result<Vec<Listed>, DeviceError> {
    Ok(all(direction)?.into_iter().map(|(listed, _)| listed).collect())
}

/// The device of this name, or the default one.
pub(super) fn find(
    direction: Direction,
    name: Option<&str>,
) -> Result<(Listed, cpal::Device), DeviceError> {
    let mut all = all(direction)?;
    let Some(name) = name else {
        let default = all.into_iter().find(|(listed, _)| listed.default);
        return default.ok_or(DeviceError::NoDefault { direction });
    };
    let listed: Vec<_> = all.iter().map(|(listed, _)| listed.clone()).collect();
    match pick(&listed, name).as_slice() {
        [one] => Ok(all.swap_remove(*one)),
        [] => {
            let there_are = listed.into_iter().map(|device| device.id).collect();
            Err(DeviceError::Unknown { direction, name: name.to_owned(), there_are })
        }
        several => {
            let fit = several.iter().map(|&index| listed[index].id.clone()).collect();
            Err(DeviceError::Ambiguous { direction, name: name.to_owned(), fit })
        }
    }
}

/// Which devices are meant by `name`: the one with just this id, else all with just this name, else all that have it as a part of
/// either, in upper or lower case.
fn pick(devices: &[Listed], name: &str) -> Vec<usize> {
    let all = |fits: &dyn Fn(&Listed) -> bool| {
        let fitting = devices.iter().enumerate().filter(|(_, device)| fits(device));
        fitting.map(|(index, _)| index).collect::<Vec<_>>()
    };
    let part = name.to_lowercase();
    let ways: [&dyn Fn(&Listed) -> bool; 3] =
        [&|device| device.id == name, &|device| device.name == name, &|device| {
            [&device.id, &device.name].iter().any(|of| of.to_lowercase().contains(&part))
        }];
    ways.into_iter().map(all).find(|fitting| !fitting.is_empty()).unwrap_or_default()
}

fn all(direction: Direction) -> Result<Vec<(Listed, cpal::Device)>, DeviceError> {
    let no_sound = |error: cpal::Error| DeviceError::NoSound { reason: error.to_string() };
    let host = cpal::default_host();
    let (default, devices) = match direction {
        Direction::Input => (host.default_input_device(), host.input_devices()),
        Direction::Output => (host.default_output_device(), host.output_devices()),
    };
    let default = default.and_then(|device| Some((device.id().ok()?, device)));
    let mut found = Vec::new();
    for device in devices.map_err(no_sound)? {
        // A device that was unplugged this very moment has no name any more.
        let Ok(id) = device.id() else { continue };
        let default = default.as_ref().is_some_and(|(default, _)| *default == id);
        found.push((described(id.id(), &device, default), device));
    }
    // The default may be an alias that is not listed itself.
    if let Some((id, device)) = default
        && !found.iter().any(|(listed, _)| listed.default)
    {
        found.insert(0, (described(id.id(), &device, true), device));
    }
    Ok(found)
}

fn described(id: &str, device: &cpal::Device, default: bool) -> Listed {
    Listed { id: id.to_owned(), name: device.to_string(), default }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_the_device_they_fit_best() {
        let devices = [("hw:0", "USB Mic"), ("hw:1", "USB Mic Pro"), ("usb mic", "Other")]
            .map(|(id, name)| Listed { id: id.into(), name: name.into(), default: false });
        for (name, meant) in [
            ("hw:1", vec![1]),
            ("USB Mic", vec![0]),
            ("usb mic", vec![2]),
            ("pro", vec![1]),
            ("USB MIC", vec![0, 1, 2]),
            ("headset", vec![]),
        ] {
            assert_eq!(pick(&devices, name), meant, "{name}");
        }
    }
}
