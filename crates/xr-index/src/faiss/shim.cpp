// What FAISS' own C interface lacks: parameters of one search (it has none for HNSW and refining),
// range search with parameters, memory-mapped reading, and how FAISS was compiled.
//
// Every function that can fail returns 0, or 1 and leaves a sentence for xr_faiss_error(). No
// exception leaves this file.

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexRefine.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/io.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#include <faiss/utils/utils.h>

namespace {

using faiss::idx_t;
using faiss::Index;

thread_local std::string last_error;

template <class F>
int guarded(F f) {
    try {
        f();
        return 0;
    } catch (const faiss::FaissException& e) {
        last_error = e.msg;
    } catch (const std::exception& e) {
        last_error = e.what();
    } catch (...) {
        last_error = "an unknown exception";
    }
    return 1;
}

template <class T>
const T* as(const Index* index) {
    return dynamic_cast<const T*>(index);
}

// What an index computes from: the index behind a transform of the vectors.
const Index* behind_transforms(const Index* index) {
    while (auto outer = as<faiss::IndexPreTransform>(index)) {
        index = outer->index;
    }
    return index;
}

} // namespace

extern "C" {

// 0 where a value is absent. `allowed` has a bit for each vector, or is null.
struct XrSearch {
    size_t nprobe;
    size_t ef_search;
    size_t rerank;
    const uint8_t* allowed;
    size_t allowed_bytes;
};

} // extern "C"

namespace {

// The parameters of an index and of those it is made of, for one search.
class Params {
  public:
    Params(const Index* index, const XrSearch& search) : search(search) {
        if (search.allowed) {
            selector = std::make_unique<faiss::IDSelectorBitmap>(
                    search.allowed_bytes, search.allowed);
        }
        root = of(index);
    }

    faiss::SearchParameters* root = nullptr;

  private:
    faiss::SearchParameters* of(const Index* index) {
        index = behind_transforms(index);
        if (auto refine = as<faiss::IndexRefine>(index)) {
            auto params = make<faiss::IndexRefineSearchParameters>();
            params->k_factor = search.rerank ? search.rerank : refine->k_factor;
            params->base_index_params = of(refine->base_index);
            return params;
        }
        if (auto ivf = as<faiss::IndexIVF>(index)) {
            auto params = make<faiss::SearchParametersIVF>();
            params->sel = selector.get();
            params->nprobe = search.nprobe ? search.nprobe : ivf->nprobe;
            params->quantizer_params = graph(ivf->quantizer, nullptr);
            return params;
        }
        if (as<faiss::IndexHNSW>(index)) {
            return graph(index, selector.get());
        }
        if (!selector) {
            return nullptr;
        }
        auto params = make<faiss::SearchParameters>();
        params->sel = selector.get();
        return params;
    }

    faiss::SearchParameters* graph(const Index* index, faiss::IDSelector* sel) {
        auto hnsw = as<faiss::IndexHNSW>(index);
        if (!hnsw) {
            return nullptr;
        }
        auto params = make<faiss::SearchParametersHNSW>();
        params->sel = sel;
        params->efSearch = search.ef_search ? int(search.ef_search) : hnsw->hnsw.efSearch;
        params->check_relative_distance = hnsw->hnsw.check_relative_distance;
        params->bounded_queue = hnsw->hnsw.search_bounded_queue;
        return params;
    }

    template <class T>
    T* make() {
        auto params = std::make_unique<T>();
        T* made = params.get();
        owned.push_back(std::move(params));
        return made;
    }

    const XrSearch& search;
    std::unique_ptr<faiss::IDSelector> selector;
    std::vector<std::unique_ptr<faiss::SearchParameters>> owned;
};

// Counts what is written and keeps nothing.
struct CountingWriter : faiss::IOWriter {
    size_t bytes = 0;

    size_t operator()(const void*, size_t size, size_t items) override {
        bytes += size * items;
        return items;
    }
};

// Are the ids that the lists of an inverted file hold the numbers of the vectors?
bool ids_are_positions(const Index* index) {
    index = behind_transforms(index);
    if (auto refine = as<faiss::IndexRefine>(index)) {
        return ids_are_positions(refine->base_index);
    }
    auto ivf = as<faiss::IndexIVF>(index);
    if (!ivf) {
        return true;
    }
    for (size_t list = 0; list < ivf->nlist; list++) {
        faiss::InvertedLists::ScopedIds ids(ivf->invlists, list);
        for (size_t i = 0; i < ivf->invlists->list_size(list); i++) {
            if (ids[i] < 0 || ids[i] >= ivf->ntotal) {
                return false;
            }
        }
    }
    return true;
}

} // namespace

extern "C" {

const char* xr_faiss_error() {
    return last_error.c_str();
}

// 2 if FAISS was compiled with AVX-512, 1 with AVX2, else 0.
int xr_faiss_simd() {
    std::string options = faiss::get_compile_options();
    return options.find("AVX512") != std::string::npos ? 2
            : options.find("AVX2") != std::string::npos ? 1
                                                        : 0;
}

int xr_faiss_factory(int dim, const char* factory, int l2, Index** out) {
    return guarded([&] {
        auto metric = l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
        *out = faiss::index_factory(dim, factory, metric);
    });
}

int xr_faiss_read(const char* path, int mapped, Index** out) {
    return guarded([&] {
        *out = faiss::read_index(path, mapped ? faiss::IO_FLAG_MMAP_IFC : 0);
    });
}

// An index of positions: what an IDMap is around, with its ids; or `index` itself. `ids` is valid
// as long as `map`, which is to be freed if it isn't null.
int xr_faiss_strip_ids(Index* index, Index** inner, Index** map, const idx_t** ids) {
    return guarded([&] {
        auto outer = dynamic_cast<faiss::IndexIDMap*>(index);
        *inner = outer ? outer->index : index;
        *map = outer;
        *ids = outer ? outer->id_map.data() : nullptr;
        if (!ids_are_positions(*inner)) {
            FAISS_THROW_MSG("its lists hold ids of your own; wrap it with IndexIDMap instead");
        }
        if (outer) {
            outer->own_fields = false;
        }
    });
}

// Writes `index`, wrapped in an IDMap if there are ids.
int xr_faiss_write(const Index* index, const idx_t* ids, const char* path) {
    return guarded([&] {
        if (!ids) {
            return faiss::write_index(index, path);
        }
        faiss::IndexIDMap map;
        map.d = index->d;
        map.ntotal = index->ntotal;
        map.metric_type = index->metric_type;
        map.is_trained = index->is_trained;
        map.index = const_cast<Index*>(index);
        map.id_map.assign(ids, ids + index->ntotal);
        faiss::write_index(&map, path);
    });
}

void xr_faiss_free(Index* index) {
    delete index;
}

int xr_faiss_dim(const Index* index) {
    return index->d;
}

size_t xr_faiss_len(const Index* index) {
    return index->ntotal;
}

// 0 for inner product, 1 for L2, 2 for another.
int xr_faiss_metric(const Index* index) {
    return index->metric_type == faiss::METRIC_INNER_PRODUCT ? 0
            : index->metric_type == faiss::METRIC_L2         ? 1
                                                             : 2;
}

// Which parameters it has: 1 nprobe, 2 ef_search, 4 rerank, added up.
int xr_faiss_parameters(const Index* index) {
    index = behind_transforms(index);
    if (auto refine = as<faiss::IndexRefine>(index)) {
        return 4 | xr_faiss_parameters(refine->base_index);
    }
    if (auto ivf = as<faiss::IndexIVF>(index)) {
        return 1 | (as<faiss::IndexHNSW>(ivf->quantizer) ? 2 : 0);
    }
    return as<faiss::IndexHNSW>(index) ? 2 : 0;
}

// Bytes of the index when written.
int xr_faiss_bytes(const Index* index, size_t* out) {
    return guarded([&] {
        CountingWriter writer;
        faiss::write_index(index, &writer);
        *out = writer.bytes;
    });
}

int xr_faiss_train(Index* index, size_t n, const float* x) {
    return guarded([&] { index->train(n, x); });
}

int xr_faiss_add(Index* index, size_t n, const float* x) {
    return guarded([&] { index->add(n, x); });
}

// `labels` and `scores` have n * k places; -1 labels mean that there was nothing more.
int xr_faiss_search(
        const Index* index,
        size_t n,
        const float* x,
        size_t k,
        const XrSearch* search,
        float* scores,
        idx_t* labels) {
    return guarded([&] {
        Params params(index, *search);
        index->search(n, x, k, scores, labels, params.root);
    });
}

int xr_faiss_range(
        const Index* index,
        size_t n,
        const float* x,
        float radius,
        const XrSearch* search,
        faiss::RangeSearchResult** out) {
    return guarded([&] {
        Params params(index, *search);
        auto found = std::make_unique<faiss::RangeSearchResult>(n);
        index->range_search(n, x, radius, found.get(), params.root);
        *out = found.release();
    });
}

// The hits of one query: their number, and where they are.
size_t xr_faiss_range_of(
        const faiss::RangeSearchResult* found,
        size_t query,
        const float** scores,
        const idx_t** labels) {
    size_t first = found->lims[query];
    *scores = found->distances + first;
    *labels = found->labels + first;
    return found->lims[query + 1] - first;
}

void xr_faiss_range_free(faiss::RangeSearchResult* found) {
    delete found;
}

} // extern "C"
