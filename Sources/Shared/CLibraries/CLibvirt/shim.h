#pragma once
#include <stddef.h>
#include <libvirt/libvirt.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

// VIR_DOMAIN_EVENT_CALLBACK is a macro cast and is not imported by Swift: one function for each kind of event in use.
static inline int karri_vir_register_lifecycle(virConnectPtr c, virConnectDomainEventCallback cb, void *opaque, virFreeCallback ff) {
    return virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(cb), opaque, ff);
}
static inline int karri_vir_register_device_removed(virConnectPtr c, virConnectDomainEventDeviceRemovedCallback cb, void *opaque, virFreeCallback ff) {
    return virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(cb), opaque, ff);
}
static inline int karri_vir_register_io_error(virConnectPtr c, virConnectDomainEventIOErrorReasonCallback cb, void *opaque, virFreeCallback ff) {
    return virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, VIR_DOMAIN_EVENT_CALLBACK(cb), opaque, ff);
}
static inline int karri_vir_register_reboot(virConnectPtr c, virConnectDomainEventGenericCallback cb, void *opaque, virFreeCallback ff) {
    return virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(cb), opaque, ff);
}
