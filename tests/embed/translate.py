# SPDX-License-Identifier: MIT
# The installed MMU from Python, by cffi: cffi reads the layout of each struct from the installed
# headers, so only the members that are used stand here.
#
#     python3 translate.py $(pkg-config --cflags --libs penumbra-mmu)
import importlib
import sys
import cffi

ffi = cffi.FFI()
ffi.cdef("""
    enum { PN_READ, PN_TLB_USER, PN_MAPPED, ... };
    struct pn_mmu_options { uint32_t prefetch; ...; };
    struct pn_mmu_config { struct pn_mmu_options opt; uint8_t maxphyaddr; ...; };
    struct pn_memslot { uint64_t size; void *hva; ...; };
    struct pn_paging { uint64_t cr0, cr3, cr4, efer; ...; };
    struct pn_xlate { uint64_t gpa; ...; };
    struct pn_tlb_view { ...; };
    struct pn_stats { ...; };
    struct pn_mmu;
    struct pn_mmu_vcpu;
    void pn_mmu_options_default(struct pn_mmu_options *opt);
    int pn_mmu_create(const struct pn_mmu_config *cfg, struct pn_mmu **out);
    int pn_mmu_slot_set(struct pn_mmu *mmu, const struct pn_memslot *slot);
    int pn_mmu_vcpu_create(struct pn_mmu *mmu, struct pn_tlb_view *view, struct pn_stats *stats,
                           void *ring, struct pn_mmu_vcpu **out);
    void pn_mmu_set_paging(struct pn_mmu_vcpu *vcpu, const struct pn_paging *paging);
    int pn_mmu_translate(struct pn_mmu_vcpu *vcpu, uint64_t gva, int access, int mode,
                         struct pn_xlate *x);
    int pn_answer(int outcome);
    void pn_mmu_vcpu_destroy(struct pn_mmu_vcpu *vcpu);
    void pn_mmu_destroy(struct pn_mmu *mmu);
""")
include = [a[2:] for a in sys.argv[1:] if a.startswith("-I")]
ffi.set_source("penumbra_mmu", "#include <penumbra/mmu.h>", include_dirs=include,
               extra_link_args=[a for a in sys.argv[1:] if not a.startswith("-I")])
ffi.compile()
sys.path.insert(0, ".")
module = importlib.import_module("penumbra_mmu")
ffi, pn = module.ffi, module.lib

space = ffi.new("char[]", 3 * 1048576)
mem = ffi.cast("char *", (int(ffi.cast("uintptr_t", space)) + 0xfff) & ~0xfff)
for table, index, gpte in ((0x1000, 0, 0x2007), (0x2000, 1, 0x3007), (0x3000, 0, 0x4007), (0x4000, 0, 0x8007)):
    ffi.cast("uint64_t *", mem + table)[index] = gpte  # the page at 0x40000000 is gpa 0x8000

config, mmu, vcpu = ffi.new("struct pn_mmu_config *"), ffi.new("struct pn_mmu **"), ffi.new("struct pn_mmu_vcpu **")
pn.pn_mmu_options_default(ffi.addressof(config.opt))
config.maxphyaddr = 40
assert pn.pn_mmu_create(config, mmu) == 0
assert pn.pn_mmu_slot_set(mmu[0], ffi.new("struct pn_memslot *", {"size": 2 * 1048576, "hva": mem})) == 0
view, stats, x = ffi.new("struct pn_tlb_view *"), ffi.new("struct pn_stats *"), ffi.new("struct pn_xlate *")
assert pn.pn_mmu_vcpu_create(mmu[0], view, stats, ffi.NULL, vcpu) == 0
pn.pn_mmu_set_paging(vcpu[0], ffi.new("struct pn_paging *", {
    "cr0": 0x80010001, "cr3": 0x1000, "cr4": 0x20, "efer": 0x500}))
assert pn.pn_answer(pn.pn_mmu_translate(vcpu[0], 0x40000123, pn.PN_READ, pn.PN_TLB_USER, x)) == pn.PN_MAPPED
print(f"gva 0x40000123 -> gpa {x.gpa:#x}")
pn.pn_mmu_vcpu_destroy(vcpu[0])
pn.pn_mmu_destroy(mmu[0])
