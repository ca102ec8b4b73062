/* SPDX-License-Identifier: MIT */
/* libvirt's domain XML: any bytes become options or one line, and devices among them are devices. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "machine/devices.h"
#include "machine/domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(void *opaque, const char *line) {
    if (!*line)
        abort();
}

static void check_devices(const json_t *config, const char *option) {
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(config, option), i, one) {
        struct device_spec d;
        char text[256];
        struct err e = {text, sizeof(text)};
        const char *line = json_string_value(one);
        if (!line || (!strchr(line, '\n') && device_parse(option, line, &d, &e)))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    json_t *config;
    int rc = domain_convert((const char *)data, size, note, NULL, &config, &e);
    if (rc && (!*text || config))
        abort();
    if (rc == 0) {
        check_devices(config, "disk");
        check_devices(config, "net");
        json_decref(config);
    }
    return 0;
}
